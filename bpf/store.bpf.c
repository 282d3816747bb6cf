// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Writes to the files of sysfs that change what is bound. Most of the functions
 * serve all buses, and their names are shared: they are hooked by address, always
 * by kprobes.
 */

#define TEXT_MASK \
	(2 * REC_TEXT_SIZE - 1) /* a bound that the verifier can see */

/* Built in a map, where the text's place behind the name may be a variable. */
struct write {
	struct rec_write record;
	char tail[NAME_MASK + TEXT_MASK];
};

/*
 * What the entry saw, by thread: a store function never calls another one. A
 * return that was missed leaves its entry until the thread's next write, or until
 * this many other threads have written.
 */
BPF_F_TABLE("lru_hash", u64, struct write, writes, 1024, BPF_F_NO_COMMON_LRU);
BPF_ARRAY(blank_write, struct write, 1);

/*
 * Another bus's write. Its return comes by the same function, and must not be
 * taken for that of an earlier write of this thread whose own was missed.
 */
static __always_inline int forget_write(void)
{
	u64 id = bpf_get_current_pid_tgid();

	writes.delete(&id);
	return 0;
}

/* The text is gone at the return, and new_id's may wait long for a probe. */
static __always_inline int enter_store(u8 file, u64 drv, u64 name, u64 text,
				       u64 size)
{
	u64 id = bpf_get_current_pid_tgid();
	struct write *w = 0, *blank;
	int zero = 0, n;
	u32 at;

	count(COUNT_WRITE_ENTERED + file);
	blank = blank_write.lookup(&zero);
	if (blank && !writes.update(&id, blank))
		w = writes.lookup(&id);
	if (!w) {
		count(COUNT_LOST_OTHER);
		return forget_write();
	}
	w->record.head.ktime_ns = bpf_ktime_get_ns();
	w->record.head.driver = drv; /* a number instead, when it leaves */
	w->record.file = file;
	w->record.size = size;
	n = bpf_probe_read_kernel_str(w->tail, REC_NAME_SIZE, (void *)name);
	w->record.name_size = n > 0 ? n : 0;
	barrier();
	at = w->record.name_size & NAME_MASK;
	if (size > REC_TEXT_SIZE)
		size = REC_TEXT_SIZE;
	/* Or the compiler drops what the verifier wants to see again. */
	asm volatile("" : "+r"(size));
	if (size <= REC_TEXT_SIZE &&
	    !bpf_probe_read_kernel(w->tail + at, size, (void *)text))
		w->record.text_size = size;
	return 0;
}

/* new_id, remove_id, bind, unbind: (struct device_driver *, text, size) */
static __always_inline int enter_driver_store(struct pt_regs *ctx, u8 file)
{
	u64 drv = PT_REGS_PARM1(ctx);

	if (!is_pci_bus(read_pointer(drv + DRIVER_BUS)))
		return forget_write();
	return enter_store(file, drv - DRV_DRIVER,
			   read_pointer(drv + DRIVER_NAME), PT_REGS_PARM2(ctx),
			   PT_REGS_PARM3(ctx));
}

int enter_new_id_store(struct pt_regs *ctx)
{
	return enter_driver_store(ctx, REC_FILE_NEW_ID);
}

int enter_remove_id_store(struct pt_regs *ctx)
{
	return enter_driver_store(ctx, REC_FILE_REMOVE_ID);
}

int enter_bind_store(struct pt_regs *ctx)
{
	return enter_driver_store(ctx, REC_FILE_BIND);
}

int enter_unbind_store(struct pt_regs *ctx)
{
	return enter_driver_store(ctx, REC_FILE_UNBIND);
}

/* (struct device *, struct device_attribute *, text, size) */
int enter_driver_override_store(struct pt_regs *ctx)
{
	u64 device = PT_REGS_PARM1(ctx);

	if (!is_pci(device))
		return forget_write();
	return enter_store(REC_FILE_DRIVER_OVERRIDE, 0,
			   read_pointer(device - DEV_DEVICE + DEV_NAME),
			   PT_REGS_PARM3(ctx), PT_REGS_PARM4(ctx));
}

/* (struct bus_type *, text, size) */
int enter_drivers_probe_store(struct pt_regs *ctx)
{
	if (!is_pci_bus(PT_REGS_PARM1(ctx)))
		return forget_write();
	return enter_store(REC_FILE_DRIVERS_PROBE, 0, 0, PT_REGS_PARM2(ctx),
			   PT_REGS_PARM3(ctx));
}

/* All of them: the entry told which one it is. */
int leave_store(struct pt_regs *ctx)
{
	u64 id = bpf_get_current_pid_tgid();
	struct write *w = writes.lookup(&id);
	struct registration *r;
	u64 entered_ns, drv;
	u32 size;

	if (!w)
		return 0;
	entered_ns = w->record.head.ktime_ns;
	drv = w->record.head.driver;
	r = registrations.lookup(&drv);
	size = sizeof(w->record) + (w->record.name_size & NAME_MASK) +
	       (w->record.text_size & TEXT_MASK);
	fill_head(&w->record.head, REC_WRITE, size, r ? r->number : 0);
	fill_task(&w->record.task);
	w->record.uid = bpf_get_current_uid_gid();
	w->record.ret = PT_REGS_RC(ctx);
	w->record.duration_ns = w->record.head.ktime_ns - entered_ns;
	count(COUNT_WRITE_LEFT + w->record.file);
	if (events.ringbuf_output(&w->record, size, 0))
		count(COUNT_LOST_OTHER);
	writes.delete(&id);
	return 0;
}
