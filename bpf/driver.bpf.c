// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* A driver's id_table, sent once per registration, at the first match. */

/*
 * Numbers instead of addresses: nothing that leaves the kernel tells where it
 * lies, and an address that a later driver gets again is not mistaken.
 */
static __always_inline struct registration *registration_of(u64 drv)
{
	u64 private = read_pointer(drv + DRV_PRIVATE);
	u64 id_table = read_pointer(drv + DRV_ID_TABLE);
	struct registration *r = registrations.lookup(&drv), fresh = {};

	if (r && r->private == private && r->id_table == id_table)
		return r;
	if (r)
		registrations.delete(&drv);
	/* Two first sights on one CPU can't share a nanosecond. */
	fresh.number = bpf_ktime_get_ns() << 8 |
		       (bpf_get_smp_processor_id() & 0xff);
	fresh.id_table = id_table;
	fresh.private = private;
	registrations.insert(&drv, &fresh);
	return registrations.lookup(&drv);
}

/* Fills r->entries from the table's entry first on; returns enum rec_end. */
static __always_inline u8 fill_entries(struct rec_driver *r, u64 id_table)
{
	u16 i;

	r->count = 0;
	if (!id_table)
		return REC_END_NULL;
	for (i = 0; i < REC_ENTRIES; i++) {
		struct rec_entry *e = &r->entries[i];

		/* struct pci_device_id up to ID_SIZE; hooks.py checks that. */
		e->override_only = 0;
		if (bpf_probe_read_kernel(e, ID_SIZE,
					  (void *)(id_table + i * ID_SIZE)))
			return REC_END_FAULT;
		if (!(e->id.vendor | e->id.subvendor | e->id.class_mask))
			return REC_END_SENTINEL;
		r->count = i + 1;
	}
	return REC_END_MORE;
}

/*
 * If the ring is full in the middle, r->end stays REC_END_MORE and the whole
 * table comes again with the next match of this driver.
 */
static __always_inline void announce(struct registration *r, u64 drv)
{
	u64 id_table = r->id_table, name = read_pointer(drv + DRV_NAME);
	u32 chunk;

	for (chunk = 0; chunk < TABLE_CHUNKS; chunk++) {
		struct rec_driver *e = events.ringbuf_reserve(sizeof(*e));
		u32 entries;
		u8 end;

		if (!e) {
			count(COUNT_LOST_OTHER);
			return;
		}
		fill_head(&e->head, REC_DRIVER, sizeof(*e), r->number);
		fill_text(e->name, sizeof(e->name), name);
		e->flags = driver_flags(drv);
		e->first = chunk * REC_ENTRIES;
		end = fill_entries(e, id_table + chunk * REC_ENTRIES * ID_SIZE);
		if (end == REC_END_MORE && chunk == TABLE_CHUNKS - 1)
			end = REC_END_TRUNCATED;
		e->end = end;
		entries = e->first + e->count;
		events.ringbuf_submit(e, 0);
		if (end) {
			r->entries = entries;
			r->end = end;
			return;
		}
	}
}

static __always_inline int unregister(u64 drv)
{
	struct registration *r = registrations.lookup(&drv);
	struct rec_unregister *e;

	if (!r)
		return 0;
	e = events.ringbuf_reserve(sizeof(*e));
	if (e) {
		fill_head(&e->head, REC_UNREGISTER, sizeof(*e), r->number);
		fill_text(e->name, sizeof(e->name), read_pointer(drv + DRV_NAME));
		events.ringbuf_submit(e, 0);
	} else {
		count(COUNT_LOST_OTHER);
	}
	registrations.delete(&drv);
	return 0;
}

#ifdef FENTRY
int enter_pci_unregister_driver(u64 *ctx)
{
	return unregister(read_pointer((u64)ctx));
}
#else
int enter_pci_unregister_driver(struct pt_regs *ctx)
{
	return unregister(PT_REGS_PARM1(ctx));
}
#endif
