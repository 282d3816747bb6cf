// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Probes of PCI devices. The hooked functions serve all buses and can nest: a
 * PCI probe may register devices of other buses. The function that decides is
 * __driver_probe_device() where it exists (PROBE_SPLIT), since bind writes call
 * it directly; driver_probe_device() then only tells the path.
 */

static __always_inline int is_pci_bus(u64 bus)
{
	u32 name = 0;

	if (bus)
		bpf_probe_read_kernel(&name, sizeof(name),
				      (void *)read_pointer(bus + BUS_NAME));
	return name == ('p' | 'c' << 8 | 'i' << 16); /* "pci" and its NUL */
}

static __always_inline int is_pci(u64 device)
{
	return is_pci_bus(read_pointer(device + DEVICE_BUS));
}

static __always_inline int enter_probe(u64 drv, u64 device)
{
	struct pair pair = { .drv = drv, .dev = device };
	struct probe_start start = { .path = REC_PATH_DRIVER_PROBE_DEVICE };

	if (!is_pci(device))
		return 0;
	count(COUNT_PROBE_ENTERED);
	if (PROBE_SPLIT && !outer_probes.lookup(&pair))
		start.path = REC_PATH_DIRECT;
	outer_probes.delete(&pair);
	start.ktime_ns = bpf_ktime_get_ns();
	probes.update(&pair, &start);
	return 1;
}

static __always_inline int leave_probe(u64 drv, u64 device, int ret)
{
	struct pair pair = { .drv = drv, .dev = device };
	struct probe_start *start = probes.lookup(&pair);
	struct registration *r;
	struct rec_probe *e;
	u64 pci_drv = drv - DRV_DRIVER;

	if (!start)
		return 0;
	count(COUNT_PROBE_LEFT);
	/* Before the record: the missing match must be known when it is judged. */
	settle(call_of_task(0));
	e = events.ringbuf_reserve(sizeof(*e));
	if (!e) {
		count(COUNT_LOST_OTHER);
		probes.delete(&pair);
		return 0;
	}
	r = registrations.lookup(&pci_drv);
	fill_head(&e->head, REC_PROBE, sizeof(*e), r ? r->number : 0);
	fill_task(&e->task);
	fill_text(e->address, sizeof(e->address),
		  read_pointer(device - DEV_DEVICE + DEV_NAME));
	e->ret = ret;
	e->duration_ns = e->head.ktime_ns - start->ktime_ns;
	e->path = start->path;
	e->flags = driver_flags(pci_drv);
	__builtin_memset(e->pad, 0, sizeof(e->pad));
	fill_text(e->name, sizeof(e->name), read_pointer(pci_drv + DRV_NAME));
	events.ringbuf_submit(e, 0);
	probes.delete(&pair);
	return 0;
}

static __always_inline int enter_outer_probe(u64 drv, u64 device)
{
	struct pair pair = { .drv = drv, .dev = device };
	u64 one = 1;

	if (is_pci(device))
		outer_probes.update(&pair, &one);
	return 0;
}

#ifdef FENTRY
int enter_probe_function(u64 *ctx)
{
	u64 a[2] = {};

	bpf_probe_read_kernel(a, sizeof(a), ctx);
	enter_probe(a[0], a[1]);
	return 0;
}

int leave_probe_function(u64 *ctx)
{
	u64 a[3] = {};

	bpf_probe_read_kernel(a, sizeof(a), ctx);
	return leave_probe(a[0], a[1], a[2]);
}

int enter_outer_probe_function(u64 *ctx)
{
	u64 a[2] = {};

	bpf_probe_read_kernel(a, sizeof(a), ctx);
	return enter_outer_probe(a[0], a[1]);
}
#else
/*
 * A return probe sees no arguments. The stack pointer at entry lies at the
 * return address, at the return just above it; with the task it names the
 * activation, also where probes nest or another return was missed.
 */
static __always_inline int enter_frame(struct pt_regs *ctx, struct pair pair)
{
	struct frame frame = { .pid_tgid = bpf_get_current_pid_tgid(),
			       .sp = PT_REGS_SP(ctx) + sizeof(u64) };

	/* A return that was missed may have left this frame behind. */
	if (enter_probe(pair.drv, pair.dev))
		probe_frames.update(&frame, &pair);
	else
		probe_frames.delete(&frame);
	return 0;
}

static __always_inline int leave_frame(struct pt_regs *ctx)
{
	struct frame frame = { .pid_tgid = bpf_get_current_pid_tgid(),
			       .sp = PT_REGS_SP(ctx) };
	struct pair *found = probe_frames.lookup(&frame), pair;

	if (!found)
		return 0;
	pair = *found;
	probe_frames.delete(&frame);
	return leave_probe(pair.drv, pair.dev, PT_REGS_RC(ctx));
}

int enter_probe_function(struct pt_regs *ctx)
{
	struct pair pair = { .drv = PT_REGS_PARM1(ctx),
			     .dev = PT_REGS_PARM2(ctx) };

	return enter_frame(ctx, pair);
}

int leave_probe_function(struct pt_regs *ctx)
{
	return leave_frame(ctx);
}

int enter_outer_probe_function(struct pt_regs *ctx)
{
	return enter_outer_probe(PT_REGS_PARM1(ctx), PT_REGS_PARM2(ctx));
}
#endif
