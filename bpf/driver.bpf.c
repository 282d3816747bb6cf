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
	/*
	 * Two first sights on one CPU can't share a nanosecond. The shift loses
	 * the highest bits after two years, which makes no two equal.
	 */
	fresh.number = bpf_ktime_get_ns() << 8 |
		       (bpf_get_smp_processor_id() & 0xff);
	fresh.id_table = id_table;
	fresh.private = private;
	registrations.insert(&drv, &fresh);
	return registrations.lookup(&drv);
}

/*
 * Sends the table in pieces. If the ring is full in the middle, r->end stays
 * REC_END_MORE and the whole table comes again with the next match.
 *
 * The verifier walks all 2,048 entries. What a path leaves behind is stored in
 * the record and read again, so that paths merge after each piece.
 */
static __always_inline void announce(struct registration *r, u64 drv)
{
	u64 id_table = r->id_table, name = read_pointer(drv + DRV_NAME);
	u8 flags = driver_flags(drv);
	u8 fault = REC_END_NULL + not_null(id_table); /* REC_END_FAULT */
	u32 chunk, i;

	for (chunk = 0; chunk < TABLE_CHUNKS; chunk++) {
		struct rec_driver *e = events.ringbuf_reserve(sizeof(*e));
		u32 end;

		if (!e) {
			count(COUNT_LOST_OTHER);
			return;
		}
		fill_head(&e->head, REC_DRIVER, sizeof(*e), r->number);
		e->name[0] = 0;
		bpf_probe_read_kernel_str(e->name, sizeof(e->name),
					  (void *)name);
		e->flags = flags;
		e->first = chunk * REC_ENTRIES;
		e->end = chunk < TABLE_CHUNKS - 1 ? REC_END_MORE :
						    REC_END_TRUNCATED;
		for (i = 0; i < REC_ENTRIES; i++) {
			struct rec_entry *entry = &e->entries[i];
			u64 from = id_table +
				   (u64)(chunk * REC_ENTRIES + i) * ID_SIZE;

			/* struct pci_device_id up to ID_SIZE: layout.py checks it */
			entry->override_only = 0;
			if (bpf_probe_read_kernel(entry, ID_SIZE,
						  (void *)from)) {
				e->end = fault;
				break;
			}
			if (!(entry->id.vendor | entry->id.subvendor |
			      entry->id.class_mask)) {
				e->end = REC_END_SENTINEL;
				break;
			}
		}
		e->count = i;
		end = e->end;
		events.ringbuf_submit(e, 0);
		if (end) {
			r->entries = chunk * REC_ENTRIES + i;
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
		fill_text(e->name, sizeof(e->name),
			  read_pointer(drv + DRV_NAME));
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
