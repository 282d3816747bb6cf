// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* pci_match_device(): its inputs at entry and at exit, and where its answer lies. */

#define HASH_PRIME 0x100000001b3ULL

static __always_inline u64 hash(u64 h, u64 word)
{
	h = (h ^ word) * HASH_PRIME;
	return h ^ h >> 32;
}

/*
 * Before the conversion to device.driver_override the text can be freed under
 * us; a read that faults makes the decision indeterminate.
 */
static __always_inline void read_override(struct call *c, struct snapshot *s)
{
	int i, size;

	s->override = 0;
	s->override_hash = 0;
	c->match.override_size = 0;
#ifdef DEV_OVERRIDE
	s->override = read_pointer(c->dev + DEV_OVERRIDE);
	if (!s->override)
		return;
	__builtin_memset(c->override, 0, sizeof(c->override));
	size = bpf_probe_read_kernel_str(c->override, sizeof(c->override),
					 (void *)s->override);
	if (size <= 0) {
		c->match.flags |= REC_MATCH_READ_FAULT;
		return;
	}
	c->match.override_size = size;
	for (i = 0; i < REC_OVERRIDE_SIZE / sizeof(u64); i++)
		s->override_hash = hash(s->override_hash, c->override[i]);
#endif
}

/*
 * Walks the dynid list without its lock, into the tail. The place of the id at
 * address ret, or of one equal to same where the kernel returns a copy, goes to
 * match.index.
 */
static __always_inline void read_dynids(struct call *c, struct snapshot *s,
					u64 ret, const u64 *same)
{
	u64 head = c->drv + DRV_DYNIDS, node = read_pointer(head), h = 0;
	u64 *id = (u64 *)c->tail;
	u32 i;

	c->match.index = -1;
	for (i = 0; i < REC_DYNIDS; i++, id += 3) {
		if (!node || node == head)
			break;
		if (bpf_probe_read_kernel(id, sizeof(struct rec_id),
					  (void *)(node + DYNID_ID)))
			c->match.flags |= REC_MATCH_READ_FAULT;
		if (c->match.index < 0 &&
		    (same ? id[0] == same[0] && id[1] == same[1] &&
				     id[2] == same[2] :
			    ret && ret == node + DYNID_ID))
			c->match.index = i;
		h = hash(hash(hash(hash(h, node), id[0]), id[1]), id[2]);
		node = read_pointer(node);
	}
	if (node && node != head)
		c->match.flags |= REC_MATCH_DYNIDS_TRUNCATED;
	c->match.dynids = i;
	s->dynids_hash = hash(h, i);
}

/* For a kernel whose kallsyms are hidden: the dummy is known by what it holds. */
static __always_inline int holds_any(u64 ret)
{
	u32 id[6] = {};

	bpf_probe_read_kernel(id, sizeof(id), (void *)ret);
	return (id[0] & id[1] & id[2] & id[3]) == 0xffffffff && !id[5];
}

static __always_inline u8 source_of(struct call *c, struct registration *r,
				    u64 ret)
{
	u64 offset = ret - r->id_table, limit = 32767 * ID_SIZE;

	if (r->end == REC_END_SENTINEL)
		limit = (u64)r->entries * ID_SIZE;
	if (!ret)
		return REC_SOURCE_NONE;
	/* The copy of an id that is in the list no more has no place. */
	if (c->copy && ret == c->copy)
		return c->match.index < 0 ? REC_SOURCE_UNKNOWN :
					    REC_SOURCE_DYNID;
	if (ret == PCI_DEVICE_ID_ANY)
		return REC_SOURCE_OVERRIDE;
	if (r->id_table && offset < limit && !(offset % ID_SIZE)) {
		c->match.index = offset / ID_SIZE;
		return REC_SOURCE_STATIC;
	}
	if (c->match.index >= 0)
		return REC_SOURCE_DYNID;
	return !PCI_DEVICE_ID_ANY && holds_any(ret) ? REC_SOURCE_OVERRIDE :
						      REC_SOURCE_UNKNOWN;
}

static __always_inline void fill_device(struct rec_match *m, u64 dev)
{
	u8 virtfn = 0;

	fill_text(m->address, sizeof(m->address), read_pointer(dev + DEV_NAME));
	bpf_probe_read_kernel(&m->vendor, 2, (void *)(dev + DEV_VENDOR));
	bpf_probe_read_kernel(&m->device, 2, (void *)(dev + DEV_DEVICE_ID));
	bpf_probe_read_kernel(&m->subvendor, 2, (void *)(dev + DEV_SUBVENDOR));
	bpf_probe_read_kernel(&m->subdevice, 2, (void *)(dev + DEV_SUBDEVICE));
	bpf_probe_read_kernel(&m->class, 4, (void *)(dev + DEV_CLASS));
	bpf_probe_read_kernel(&virtfn, 1, (void *)(dev + DEV_IS_VIRTFN_BYTE));
	if (virtfn & DEV_IS_VIRTFN_MASK)
		m->flags |= REC_MATCH_IS_VIRTFN;
}

/* Appends name and override behind the dynids; returns the record's size. */
static __always_inline u32 fill_tail(struct call *c)
{
	struct rec_match *m = &c->match;
	char *tail = c->tail;
	u32 at, size;
	int n;

	barrier();
	at = (m->dynids & DYNIDS_MASK) * sizeof(struct rec_id);
	n = bpf_probe_read_kernel_str(tail + at, REC_NAME_SIZE,
				      (void *)read_pointer(c->drv + DRV_NAME));
	m->name_size = n > 0 ? n : 0;
	if (n <= 0)
		m->flags |= REC_MATCH_READ_FAULT;
	barrier();
	at += m->name_size & NAME_MASK;
	size = m->override_size & OVERRIDE_MASK;
	if (size)
		bpf_probe_read_kernel(tail + at, size, c->override);
	return sizeof(*m) + at + size;
}

static __always_inline struct call *call_of_task(int make)
{
	u32 pid = bpf_get_current_pid_tgid();
	struct call *c = calls.lookup(&pid), *blank;
	int zero = 0;

	if (c || !make)
		return c;
	blank = blank_call.lookup(&zero);
	if (blank)
		calls.update(&pid, blank);
	return calls.lookup(&pid);
}

/* The task is past its last match, so if that has not ended, its exit was missed. */
static __always_inline void settle(struct call *c)
{
	if (c && c->drv) {
		count(COUNT_MATCH_NO_EXIT);
		c->drv = 0;
	}
}

static __always_inline int enter_match(u64 drv, u64 dev, u64 copy)
{
	struct call *c = call_of_task(1);
	struct registration *r;

	if (!c)
		return 0; /* its exit is counted as one without entry */
	settle(c);
	count(COUNT_MATCH_ENTERED);
	c->drv = drv;
	c->dev = dev;
	c->copy = copy;
	c->match.flags = 0;
	read_override(c, &c->at_entry);
	read_dynids(c, &c->at_entry, 0, 0);
	r = registration_of(drv);
	if (r && r->end == REC_END_MORE)
		announce(r, drv);
	return 0;
}

static __always_inline u8 changes(const struct snapshot *a,
				  const struct snapshot *b)
{
	u8 flags = 0;

	if (a->override != b->override || a->override_hash != b->override_hash)
		flags |= REC_MATCH_OVERRIDE_CHANGED;
	if (a->dynids_hash != b->dynids_hash)
		flags |= REC_MATCH_DYNIDS_CHANGED;
	return flags;
}

static __always_inline void report(struct call *c, u64 ret)
{
	struct registration *r = registrations.lookup(&c->drv), unknown = {};
	struct rec_match *m = &c->match;
	u64 same[3] = {};
	u32 size;

	if (!r)
		r = &unknown;
	read_override(c, &c->at_exit);
	if (c->copy && ret == c->copy)
		bpf_probe_read_kernel(same, sizeof(same), (void *)ret);
	read_dynids(c, &c->at_exit, ret, c->copy ? same : 0);
	m->source = source_of(c, r, ret);
	if (m->source == REC_SOURCE_NONE || m->source == REC_SOURCE_OVERRIDE)
		m->index = -1;
#ifdef BREAK_SNAPSHOT /* for tests: every decision looks as if made in a race */
	c->at_entry.override ^= 1;
	c->at_entry.dynids_hash ^= 1;
#endif
	m->flags |= changes(&c->at_entry, &c->at_exit);
	fill_device(m, c->dev);
	fill_task(&m->task);
	size = fill_tail(c);
	fill_head(&m->head, REC_MATCH, size, r->number);
	count(COUNT_EMITTED);
	if (events.ringbuf_output(m, size, 0))
		count(COUNT_LOST_RESERVE);
}

static __always_inline int leave_match(u64 drv, u64 ret)
{
	struct call *c = call_of_task(0);
	int entered = COUNT_MATCH_ENTERED;
	u64 *any = counters.lookup(&entered);

	/* fexit tells drv; a call of another drv is one whose exit was missed */
	if (!c || !c->drv || (drv && drv != c->drv)) {
		/* The exit is attached first: what it sees alone is not missed. */
		if (any && *any)
			count(COUNT_MATCH_NO_ENTRY);
		return 0;
	}
	count(COUNT_MATCH_LEFT);
	/*
	 * new_id's duplicate test on kernels of the linux-5.11 rules asks with a
	 * device that is on no bus: no decision.
	 */
	if (read_pointer(c->dev + DEV_BUS))
		report(c, ret);
	else
		count(COUNT_SYNTHETIC);
	c->drv = 0;
	return 0;
}

#ifdef FENTRY
/* Arguments, then the return value; copied, or the verifier takes them for typed. */
int enter_pci_match_device(u64 *ctx)
{
	u64 a[3] = {};

	bpf_probe_read_kernel(a, sizeof(u64) * MATCH_ARGS, ctx);
	return enter_match(a[0], a[1], a[2]);
}

int leave_pci_match_device(u64 *ctx)
{
	u64 a[4] = {};

	bpf_probe_read_kernel(a, sizeof(u64) * (MATCH_ARGS + 1), ctx);
	return leave_match(a[0], a[MATCH_ARGS]);
}
#else
int enter_pci_match_device(struct pt_regs *ctx)
{
	return enter_match(PT_REGS_PARM1(ctx), PT_REGS_PARM2(ctx),
			   MATCH_ARGS == 3 ? PT_REGS_PARM3(ctx) : 0);
}

int leave_pci_match_device(struct pt_regs *ctx)
{
	return leave_match(0, PT_REGS_RC(ctx));
}
#endif
