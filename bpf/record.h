/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What travels over the ring buffer. observer/wire.py reads it; tests/test_abi.py
 * compiles this file and fails when the two disagree.
 *
 * Fixed widths, natural alignment, explicit padding, host byte order. A record is
 * as long as head.size says; a match, of which there are many, is no longer than
 * what it carries. Drivers are known by a number given at first sight, so that no
 * kernel address is needed to tell them apart; only driver_data may hold one.
 * pid is the thread and tgid the process, as in the kernel.
 */
#ifndef PCI_OBSERVER_RECORD_H
#define PCI_OBSERVER_RECORD_H

#define REC_COMM_SIZE 16
#define REC_ADDRESS_SIZE 16 /* "0000:00:02.0", domains of up to 7 digits */
#define REC_NAME_SIZE 64 /* a driver's name, its NUL included */
#define REC_OVERRIDE_SIZE 128 /* driver_override, its NUL included */
#define REC_DYNIDS 32 /* dynids carried by one match */
#define REC_ENTRIES 32 /* id_table entries in one rec_driver */
#define REC_TEXT_SIZE 128 /* bytes of a write that are carried */
#define REC_DIGESTS 32768 /* decisions that can be told apart */

enum rec_kind {
	REC_DRIVER = 1,
	REC_MATCH = 2,
	REC_PROBE = 3,
	REC_UNREGISTER = 4,
	REC_WRITE = 5,
};

struct rec_head {
	u16 kind; /* enum rec_kind */
	u16 size; /* bytes of the whole record, this head included */
	u32 cpu;
	u64 driver; /* number of this registration of a driver, 0: never seen */
	u64 ktime_ns; /* CLOCK_MONOTONIC when the hooked function returned */
};

/* Who made the kernel do it. */
struct rec_task {
	u32 pid;
	u32 tgid;
	char comm[REC_COMM_SIZE];
};

/* struct pci_device_id as far as a dynid needs it. */
struct rec_id {
	u32 vendor;
	u32 device;
	u32 subvendor;
	u32 subdevice;
	u32 class;
	u32 class_mask;
};

struct rec_entry {
	struct rec_id id;
	u64 driver_data;
	u32 override_only;
	u32 pad;
};

enum rec_end {
	REC_END_MORE = 0, /* another rec_driver follows */
	REC_END_SENTINEL = 1, /* the table is complete */
	REC_END_NULL = 2, /* the driver has no table */
	REC_END_FAULT = 3, /* an entry could not be read; SENTINEL | 2 */
	REC_END_TRUNCATED = 4, /* longer than we carry */
};

#define REC_DRIVER_HAS_PROBE 1 /* pci_driver.probe is set */

/* A driver's name and a piece of its id_table, sent at first sight. */
struct rec_driver {
	struct rec_head head;
	u32 first; /* place of entries[0] in id_table */
	u16 count; /* entries used here */
	u8 end; /* enum rec_end */
	u8 flags; /* REC_DRIVER_* */
	char name[REC_NAME_SIZE];
	struct rec_entry entries[REC_ENTRIES];
};

enum rec_source {
	REC_SOURCE_NONE = 0, /* null */
	REC_SOURCE_STATIC = 1, /* index is the place in id_table */
	REC_SOURCE_DYNID = 2, /* index is the place in the dynid list */
	REC_SOURCE_OVERRIDE = 3, /* pci_device_id_any */
	REC_SOURCE_UNKNOWN = 4, /* none of these; a dynid removed meanwhile */
};

#define REC_MATCH_IS_VIRTFN 0x01
#define REC_MATCH_OVERRIDE_CHANGED 0x02 /* between entry and exit */
#define REC_MATCH_DYNIDS_CHANGED 0x04
#define REC_MATCH_DYNIDS_TRUNCATED 0x08 /* the list goes on after REC_DYNIDS */
#define REC_MATCH_READ_FAULT 0x10

/*
 * One return of pci_match_device(). In its tail: dynids times struct rec_id,
 * name_size bytes of the driver's name, override_size bytes of driver_override
 * (0: unset), both with their NUL.
 */
struct rec_match {
	struct rec_head head;
	struct rec_task task;
	char address[REC_ADDRESS_SIZE];
	u16 vendor;
	u16 device;
	u16 subvendor;
	u16 subdevice;
	u32 class;
	s16 index; /* -1: does not apply */
	u8 source; /* enum rec_source */
	u8 flags; /* REC_MATCH_* */
	u8 dynids;
	u8 name_size;
	u8 override_size;
	u8 pad;
	u32 digest; /* decisions like this one are counted there, 0: they are not */
	char tail[];
};

enum rec_path {
	REC_PATH_DRIVER_PROBE_DEVICE = 1, /* through driver_probe_device() */
	REC_PATH_DIRECT = 2, /* the inner one called directly: a bind write */
};

/* One probe: one return of (__)driver_probe_device() for a PCI device. */
struct rec_probe {
	struct rec_head head;
	struct rec_task task;
	char address[REC_ADDRESS_SIZE];
	s32 ret; /* raw; its meaning depends on the kernel */
	u64 duration_ns;
	u8 path; /* enum rec_path */
	u8 flags; /* REC_DRIVER_* */
	u8 pad[6];
	char name[REC_NAME_SIZE];
};

struct rec_unregister {
	struct rec_head head;
	char name[REC_NAME_SIZE];
};

/* The files of sysfs whose writes change what is bound. */
enum rec_file {
	REC_FILE_NEW_ID = 0,
	REC_FILE_REMOVE_ID = 1,
	REC_FILE_DRIVER_OVERRIDE = 2,
	REC_FILE_BIND = 3,
	REC_FILE_UNBIND = 4,
	REC_FILE_DRIVERS_PROBE = 5,
};

/*
 * One write to such a file of PCI: one return of its store function. In its tail:
 * name_size bytes of a name with their NUL (driver_override: the device's address;
 * drivers_probe: none; else the driver's name), then text_size bytes as the function
 * got them, which may hold NULs and have none of their own.
 */
struct rec_write {
	struct rec_head head;
	struct rec_task task;
	s64 ret; /* bytes taken, or a negative errno */
	u64 duration_ns;
	u64 size; /* bytes written; the first REC_TEXT_SIZE of them are carried */
	u32 uid; /* the task's real one, as the initial namespace knows it */
	u8 file; /* enum rec_file */
	u8 name_size; /* 0 too where it could not be read; so is text_size */
	u8 text_size;
	u8 pad;
	char tail[];
};

/* Places in the counters map; all only grow. */
enum counter {
	COUNT_WHOLE = 0, /* match decisions that were to be sent */
	COUNT_LOST_RESERVE = 1, /* of these, no room in the ring */
	COUNT_SYNTHETIC = 2, /* new_id's fake device, no decision */
	COUNT_MATCH_ENTERED = 3,
	COUNT_REPEATED = 4, /* other match decisions, counted in repeats */
	COUNT_MATCH_NO_ENTRY = 5, /* exits without an entry */
	COUNT_PROBE_ENTERED = 6, /* PCI devices only */
	COUNT_PROBE_LEFT = 7,
	COUNT_LOST_OTHER = 8, /* records of other kinds, no room */
	COUNT_MATCH_NO_EXIT = 9, /* entries found without their exit */
	COUNT_WRITE_ENTERED = 10, /* PCI only; a counter by enum rec_file */
	COUNT_WRITE_LEFT = 16, /* by enum rec_file */
	COUNT_NO_DIGEST = 22, /* match decisions sent for want of a digest */
	COUNTERS = 32,
};

#endif
