/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Maps and what every hook does with them. What differs between kernels (DRV_*,
 * DEV_*, ID_SIZE, MATCH_ARGS, ...) comes as -D constants, each as KERNEL(value);
 * observer/hooks.py lists them.
 */

/*
 * A value that the loader may put in when the compiler has long gone: alone in a
 * register, so that nothing is folded into it and no code depends on it.
 */
#define KERNEL(value)                                               \
	({                                                          \
		u64 alone;                                          \
		asm volatile("%0 = %1" : "=r"(alone) : "i"(value)); \
		alone;                                              \
	})

/* One registration of a driver. */
struct registration {
	u64 number;
	u64 id_table;
	u64 private; /* device_driver.p: another one is another registration */
	u64 dynids; /* hash of those that were sent last */
	u32 entries; /* in id_table, as far as announced */
	u32 end; /* enum rec_end; REC_END_MORE: not announced yet */
};

/* What a match may be made from and can change while it runs. */
struct snapshot {
	u64 override; /* the pointer */
	u64 override_hash;
	u64 dynids_hash; /* of ids and count */
	u64 dynids_places; /* where they lie */
	u64 override_writes; /* that began or ended, whatever the device */
	u64 removals; /* writes to remove_id, whatever the driver */
};

/*
 * All that a decision depends on which came to nothing: exactly, but for the text of
 * driver_override and the dynids, of which there is a hash each.
 */
struct decision {
	u64 driver;
	u64 ids; /* vendor, device, subvendor, subdevice */
	u64 class_and_flags;
	u64 override_hash;
	u64 dynids_hash;
};

/* A decision that is known by its place here, once it was sent whole. */
struct digest {
	struct decision decision;
	u64 sent;
};

#define HASH_PRIME 0x100000001b3ULL

#define DYNIDS_MASK (2 * REC_DYNIDS - 1) /* bounds that the verifier can see */
#define NAME_MASK (2 * REC_NAME_SIZE - 1)
#define OVERRIDE_MASK (2 * REC_OVERRIDE_SIZE - 1)
#define TAIL_SIZE \
	(DYNIDS_MASK * sizeof(struct rec_id) + NAME_MASK + OVERRIDE_MASK)

/*
 * A task inside pci_match_device(). It stays after the call, so that the next
 * one of this task needs no update; drv == 0: no call under way. The record is
 * built here because a program can be preempted and the stack is small; and the
 * verifier merges paths that differ only in what lies in a map.
 */
struct call {
	u64 drv;
	u64 dev;
	u64 copy; /* id_copy on kernels that have a third argument, else 0 */
	u64 ret;
	struct registration registration; /* as it was at entry */
	struct snapshot at_entry;
	struct snapshot at_exit;
	u64 override[REC_OVERRIDE_SIZE / sizeof(u64)];
	struct rec_match match;
	char tail[TAIL_SIZE];
};

/* What the loader puts in once the hooks are attached. */
struct settings {
	u64 digests; /* 0: every decision is sent whole */
	u64 pci_device_id_any; /* its address, 0: not known */
};

/* A (device_driver, device): correlates probes, whatever task they run in. */
struct pair {
	u64 drv;
	u64 dev;
};

struct probe_start {
	u64 ktime_ns;
	u64 path; /* enum rec_path */
};

/* A function's activation: where it returns to is unique while it runs. */
struct frame {
	u64 pid_tgid;
	u64 sp;
};

BPF_RINGBUF_OUTPUT(events, RING_PAGES);
BPF_F_TABLE("array", int, u64, counters, COUNTERS, BPF_F_MMAPABLE);
/*
 * Per-CPU lists: with common ones a CPU that runs out of free entries takes one
 * that is in use. The others are deleted when done, so they need no LRU.
 */
BPF_F_TABLE("lru_hash", u32, struct call, calls, 4096, BPF_F_NO_COMMON_LRU);
BPF_ARRAY(blank_call, struct call, 1);
BPF_TABLE("hash", u32, struct digest, digests, REC_DIGESTS);
BPF_F_TABLE("array", int, u64, repeats, REC_DIGESTS, BPF_F_MMAPABLE);
BPF_ARRAY(settings, struct settings, 1);
BPF_TABLE("hash", u64, struct registration, registrations, 4096);
BPF_TABLE("hash", struct pair, struct probe_start, probes, 1024);
BPF_TABLE("hash", struct pair, u64, outer_probes, 1024);
BPF_TABLE("hash", struct frame, struct pair, probe_frames, 1024);

static __always_inline void count(int which)
{
	u64 *c = counters.lookup(&which);

	if (c)
		__sync_fetch_and_add(c, 1);
}

static __always_inline u64 counted(int which)
{
	u64 *c = counters.lookup(&which);

	return c ? *c : 0;
}

static __always_inline u64 hash(u64 h, u64 word)
{
	h = (h ^ word) * HASH_PRIME;
	return h ^ h >> 32;
}

static __always_inline struct settings read_settings(void)
{
	int zero = 0;
	struct settings *s = settings.lookup(&zero), none = {};

	return s ? *s : none;
}

static __always_inline u64 read_pointer(u64 address)
{
	u64 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), (void *)address);
	return value;
}

static __always_inline void fill_head(struct rec_head *head, u16 kind, u16 size,
				      u64 driver)
{
	head->kind = kind;
	head->size = size;
	head->cpu = bpf_get_smp_processor_id();
	head->driver = driver;
	head->ktime_ns = bpf_ktime_get_ns();
}

static __always_inline void fill_task(struct rec_task *task)
{
	u64 id = bpf_get_current_pid_tgid();

	task->pid = id;
	task->tgid = id >> 32;
	bpf_get_current_comm(task->comm, sizeof(task->comm));
}

static __always_inline void fill_text(char *to, u32 size, u64 pointer)
{
	to[0] = 0;
	if (pointer)
		bpf_probe_read_kernel_str(to, size, (void *)pointer);
}

/* 0 or 1, without a branch: the verifier would follow both ways from there. */
static __always_inline u64 not_null(u64 pointer)
{
	u64 sign = pointer | -pointer;

	asm volatile("" : "+r"(sign));
	return sign >> 63;
}

static __always_inline u8 driver_flags(u64 drv)
{
	return not_null(read_pointer(drv + DRV_PROBE)) * REC_DRIVER_HAS_PROBE;
}
