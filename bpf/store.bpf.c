// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Writes to the files of sysfs that change what is bound. Most of the functions
 * serve all buses, and their names are shared: they are hooked by address, always
 * by kprobes.
 */

/*
 * What the entry saw, by thread: a store function never calls another one. A
 * return that was missed leaves its entry until the thread's next write, or until
 * this many other threads have written.
 */
BPF_F_TABLE("lru_hash", u64, struct rec_write, writes, 1024,
	    BPF_F_NO_COMMON_LRU);

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
static __always_inline int enter_store(struct rec_write *w, u8 file, u64 text,
				       u64 size)
{
	u64 id = bpf_get_current_pid_tgid();

	w->head.ktime_ns = bpf_ktime_get_ns();
	w->file = file;
	w->size = size;
	if (size > REC_TEXT_SIZE)
		size = REC_TEXT_SIZE;
	/* Or the compiler drops what the verifier wants to see again. */
	asm volatile("" : "+r"(size));
	if (size <= REC_TEXT_SIZE &&
	    !bpf_probe_read_kernel(w->text, size, (void *)text))
		w->text_size = size;
	count(COUNT_WRITE_ENTERED + file);
	if (writes.update(&id, w))
		count(COUNT_LOST_OTHER);
	return 0;
}

/* new_id, remove_id, bind, unbind: (struct device_driver *, text, size) */
static __always_inline int enter_driver_store(struct pt_regs *ctx, u8 file)
{
	u64 drv = PT_REGS_PARM1(ctx);
	struct rec_write w = {};

	if (!is_pci_bus(read_pointer(drv + DRIVER_BUS)))
		return forget_write();
	w.head.driver = drv - DRV_DRIVER; /* a number instead, when it leaves */
	fill_text(w.name, sizeof(w.name), read_pointer(drv + DRIVER_NAME));
	return enter_store(&w, file, PT_REGS_PARM2(ctx), PT_REGS_PARM3(ctx));
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
	struct rec_write w = {};

	if (!is_pci(device))
		return forget_write();
	fill_text(w.address, sizeof(w.address),
		  read_pointer(device - DEV_DEVICE + DEV_NAME));
	return enter_store(&w, REC_FILE_DRIVER_OVERRIDE, PT_REGS_PARM3(ctx),
			   PT_REGS_PARM4(ctx));
}

/* (struct bus_type *, text, size) */
int enter_drivers_probe_store(struct pt_regs *ctx)
{
	struct rec_write w = {};

	if (!is_pci_bus(PT_REGS_PARM1(ctx)))
		return forget_write();
	return enter_store(&w, REC_FILE_DRIVERS_PROBE, PT_REGS_PARM2(ctx),
			   PT_REGS_PARM3(ctx));
}

/* All of them: the entry told which one it is. */
int leave_store(struct pt_regs *ctx)
{
	u64 id = bpf_get_current_pid_tgid();
	struct rec_write *w = writes.lookup(&id);
	struct registration *r;
	u64 entered_ns, drv;

	if (!w)
		return 0;
	entered_ns = w->head.ktime_ns;
	drv = w->head.driver;
	r = registrations.lookup(&drv);
	fill_head(&w->head, REC_WRITE, sizeof(*w), r ? r->number : 0);
	fill_task(&w->task);
	w->uid = bpf_get_current_uid_gid();
	w->ret = PT_REGS_RC(ctx);
	w->duration_ns = w->head.ktime_ns - entered_ns;
	count(COUNT_WRITE_LEFT + w->file);
	if (events.ringbuf_output(w, sizeof(*w), 0))
		count(COUNT_LOST_OTHER);
	writes.delete(&id);
	return 0;
}
