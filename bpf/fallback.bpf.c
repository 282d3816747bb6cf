// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * For kernels where pci_match_device() or the probe function can't be hooked: their
 * callers on the PCI side, which tell less.
 */

/* pci_bus_match(): whether there is a match; not by which id. */
static __always_inline int enter_bus_match(struct call *c, u64 device, u64 drv)
{
	c->drv = drv - DRV_DRIVER;
	c->dev = device - DEV_DEVICE;
	c->copy = 0;
	barrier();
	return enter_match(c);
}

/* No id lies at address 1, so what matched is of an unknown source. */
static __always_inline int leave_bus_match(struct call *c, int matched)
{
	c->ret = matched ? 1 : 0;
	barrier();
	return leave_match(c);
}

/*
 * pci_device_probe(): the core has set the device's driver by then and takes it back
 * only afterwards. What the core itself refuses does not come here.
 */
static __always_inline struct pair pair_of(u64 device)
{
	struct pair pair = { .drv = read_pointer(device + DEVICE_DRIVER),
			     .dev = device };

	return pair;
}

#ifdef FENTRY
int enter_pci_bus_match(u64 *ctx)
{
	struct call *c = call_of_task(1);

	if (!c)
		return 0; /* its exit is counted as one without entry */
	settle(c);
	return enter_bus_match(c, ARGUMENT(ctx, 0), ARGUMENT(ctx, 1));
}

int leave_pci_bus_match(u64 *ctx)
{
	struct call *c = call_of_task(0);

	/* A call of another driver is one whose exit was missed. */
	if (!c || !c->drv || c->drv != ARGUMENT(ctx, 1) - DRV_DRIVER)
		return no_entry();
	return leave_bus_match(c, ARGUMENT(ctx, 2));
}

int enter_pci_device_probe(u64 *ctx)
{
	struct pair pair = pair_of(read_pointer((u64)ctx));

	enter_probe(pair.drv, pair.dev);
	return 0;
}

int leave_pci_device_probe(u64 *ctx)
{
	u64 a[2] = {};
	struct pair pair;

	bpf_probe_read_kernel(a, sizeof(a), ctx);
	pair = pair_of(a[0]);
	return leave_probe(pair.drv, pair.dev, a[1]);
}
#else
int enter_pci_bus_match(struct pt_regs *ctx)
{
	struct call *c = call_of_task(1);

	if (!c)
		return 0; /* its exit is counted as one without entry */
	settle(c);
	return enter_bus_match(c, PT_REGS_PARM1(ctx), PT_REGS_PARM2(ctx));
}

int leave_pci_bus_match(struct pt_regs *ctx)
{
	struct call *c = call_of_task(0);

	if (!c || !c->drv)
		return no_entry();
	return leave_bus_match(c, PT_REGS_RC(ctx));
}

int enter_pci_device_probe(struct pt_regs *ctx)
{
	return enter_frame(ctx, pair_of(PT_REGS_PARM1(ctx)));
}

int leave_pci_device_probe(struct pt_regs *ctx)
{
	return leave_frame(ctx);
}
#endif
