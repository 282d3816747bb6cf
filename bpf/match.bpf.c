// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* pci_match_device(): its inputs at entry and at exit, and where its answer lies. */

#define DIGEST_PLACES 8 /* where a digest may lie, one after the other */
#ifndef DIGESTS_USED /* for tests: fewer of them */
#define DIGESTS_USED REC_DIGESTS
#endif

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
	s->override_hash = size;
	for (i = 0; i < REC_OVERRIDE_SIZE / sizeof(u64); i++)
		s->override_hash = hash(s->override_hash, c->override[i]);
#endif
}

/*
 * What changes and changes back between two looks is the same in both. No value does
 * so without a write, and of the second of two, beginning or end lies in between. To
 * be read before the values at the entry, and after them at the exit.
 */
static __always_inline void read_writes(struct snapshot *s)
{
	s->override_writes =
		counted(COUNT_WRITE_ENTERED + REC_FILE_DRIVER_OVERRIDE) +
		counted(COUNT_WRITE_LEFT + REC_FILE_DRIVER_OVERRIDE);
	s->removals = counted(COUNT_WRITE_ENTERED + REC_FILE_REMOVE_ID) +
		      counted(COUNT_WRITE_LEFT + REC_FILE_REMOVE_ID);
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
	u64 places = 0;
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
		h = hash(hash(hash(h, id[0]), id[1]), id[2]);
		places = hash(places, node);
		node = read_pointer(node);
	}
	if (node && node != head)
		c->match.flags |= REC_MATCH_DYNIDS_TRUNCATED;
	c->match.dynids = i;
	s->dynids_hash = hash(h, i);
	s->dynids_places = places;
}

/* Where its address is not known, the dummy is known by what it holds. */
static __always_inline int is_dummy(u64 ret)
{
	u64 any = read_settings().pci_device_id_any;
	u32 id[6] = {};

	if (any)
		return ret == any;
	bpf_probe_read_kernel(id, sizeof(id), (void *)ret);
	return (id[0] & id[1] & id[2] & id[3]) == 0xffffffff && !id[5];
}

static __always_inline u8 source_of(struct call *c, u64 ret)
{
	const struct registration *r = &c->registration;
	u64 offset = ret - r->id_table, size = ID_SIZE, limit = 32767 * size;

	if (r->end == REC_END_SENTINEL)
		limit = r->entries * size;
	if (!ret)
		return REC_SOURCE_NONE;
	/* The copy of an id that is in the list no more has no place. */
	if (c->copy && ret == c->copy)
		return c->match.index < 0 ? REC_SOURCE_UNKNOWN :
					    REC_SOURCE_DYNID;
	if (r->id_table && offset < limit && !(offset % size)) {
		c->match.index = offset / size;
		return REC_SOURCE_STATIC;
	}
	if (c->match.index >= 0)
		return REC_SOURCE_DYNID;
	return is_dummy(ret) ? REC_SOURCE_OVERRIDE : REC_SOURCE_UNKNOWN;
}

/* The ids lie in a row: layout.py checks it. */
static __always_inline void fill_ids(struct rec_match *m, u64 dev)
{
	bpf_probe_read_kernel(&m->vendor, 4 * sizeof(u16) + sizeof(u32),
			      (void *)(dev + DEV_VENDOR));
}

static __always_inline void fill_device(struct rec_match *m, u64 dev)
{
	u8 virtfn = 0;

	fill_text(m->address, sizeof(m->address), read_pointer(dev + DEV_NAME));
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

static __always_inline int enter_match(struct call *c)
{
	struct registration *r, unknown = {};

	count(COUNT_MATCH_ENTERED);
	c->match.flags = 0;
	read_writes(&c->at_entry);
	barrier();
	read_override(c, &c->at_entry);
	read_dynids(c, &c->at_entry, 0, 0);
	r = registration_of(c->drv);
	if (r && r->end == REC_END_MORE)
		announce(r, c->drv);
	c->registration = r ? *r : unknown;
	return 0;
}

static __always_inline u8 changes(const struct snapshot *a,
				  const struct snapshot *b)
{
	u8 flags = 0;

	if (a->override != b->override ||
	    a->override_hash != b->override_hash ||
	    a->override_writes != b->override_writes)
		flags |= REC_MATCH_OVERRIDE_CHANGED;
	if (a->dynids_hash != b->dynids_hash ||
	    a->dynids_places != b->dynids_places || a->removals != b->removals)
		flags |= REC_MATCH_DYNIDS_CHANGED;
	return flags;
}

static __always_inline int is_same(const struct decision *a,
				   const struct decision *b)
{
	return !((a->driver ^ b->driver) | (a->ids ^ b->ids) |
		 (a->class_and_flags ^ b->class_and_flags) |
		 (a->override_hash ^ b->override_hash) |
		 (a->dynids_hash ^ b->dynids_hash));
}

/*
 * The digest of the decision, if need be a new one. Two CPUs that want the same
 * place for it don't both get it; the other one looks again.
 */
static __always_inline struct digest *digest_of(struct call *c)
{
	struct rec_match *m = &c->match;
	struct digest fresh = {}, *found;
	u64 h;
	u32 i, place;

	fresh.decision.driver = c->registration.number;
	fresh.decision.ids = *(u64 *)&m->vendor;
	fresh.decision.class_and_flags = m->class | (u64)m->flags << 32;
	fresh.decision.override_hash = c->at_exit.override_hash;
	fresh.decision.dynids_hash = c->at_exit.dynids_hash;
	h = hash(fresh.decision.driver, fresh.decision.ids);
	h = hash(h, fresh.decision.class_and_flags);
	h = hash(h, fresh.decision.override_hash);
	h = hash(h, fresh.decision.dynids_hash);
#pragma clang loop unroll(disable)
	for (i = 0; i < DIGEST_PLACES; i++) {
		place = (h + i) & (DIGESTS_USED - 1);
		found = digests.lookup(&place);
		if (!found) {
			digests.insert(&place, &fresh);
			found = digests.lookup(&place);
		}
		if (found && is_same(&found->decision, &fresh.decision)) {
			m->digest = place + 1;
			return found;
		}
	}
	count(COUNT_NO_DIGEST);
	return 0;
}

static __always_inline int count_repeat(u32 digest)
{
	int place = digest - 1;
	u64 *n = repeats.lookup(&place);

	if (!n)
		return 0;
	__sync_fetch_and_add(n, 1);
	count(COUNT_REPEATED);
	return 1;
}

/*
 * What came to nothing and is beyond doubt is sent whole once and then only
 * counted. A match is always sent: it says which device may be bound. So is the
 * first decision after the dynids changed, even back to what they were.
 */
static __always_inline struct digest *repeatable(struct call *c)
{
	struct rec_match *m = &c->match;

	m->digest = 0;
	if (!read_settings().digests || m->source != REC_SOURCE_NONE ||
	    m->flags & ~REC_MATCH_DYNIDS_TRUNCATED ||
	    c->registration.end == REC_END_MORE)
		return 0;
	return digest_of(c);
}

static __always_inline void report(struct call *c, u64 ret)
{
	struct rec_match *m = &c->match;
	struct registration *r;
	struct digest *digest;
	u64 same[3] = {};
	u32 size;

	read_override(c, &c->at_exit);
	if (c->copy && ret == c->copy)
		bpf_probe_read_kernel(same, sizeof(same), (void *)ret);
	read_dynids(c, &c->at_exit, ret, c->copy ? same : 0);
	barrier();
	read_writes(&c->at_exit);
	m->source = source_of(c, ret);
	if (m->source == REC_SOURCE_NONE || m->source == REC_SOURCE_OVERRIDE)
		m->index = -1;
#ifdef BREAK_SNAPSHOT /* for tests: every decision looks as if made in a race */
	c->at_entry.override ^= 1;
	c->at_entry.dynids_hash ^= 1;
#endif
	m->flags |= changes(&c->at_entry, &c->at_exit);
	fill_ids(m, c->dev);
	digest = repeatable(c);
	if (digest && digest->sent &&
	    c->registration.dynids == c->at_exit.dynids_hash &&
	    count_repeat(m->digest))
		return;
	fill_device(m, c->dev);
	fill_task(&m->task);
	size = fill_tail(c);
	fill_head(&m->head, REC_MATCH, size, c->registration.number);
	count(COUNT_WHOLE);
	if (events.ringbuf_output(m, size, 0)) {
		count(COUNT_LOST_RESERVE);
		return;
	}
	r = registrations.lookup(&c->drv);
	if (r)
		r->dynids = c->at_exit.dynids_hash;
	if (digest)
		digest->sent = 1;
}

static __always_inline int leave_match(struct call *c)
{
	/*
	 * new_id's duplicate test on kernels of the linux-5.11 rules asks with a
	 * device that is on no bus: no decision.
	 */
	if (read_pointer(c->dev + DEV_BUS))
		report(c, c->ret);
	else
		count(COUNT_SYNTHETIC);
	c->drv = 0;
	return 0;
}

/* The entry was missed, or the hook of the entry is not attached yet. */
static __always_inline int no_entry(void)
{
	int entered = COUNT_MATCH_ENTERED;
	u64 *any = counters.lookup(&entered);

	/* The exit is attached first: what it sees alone is not missed. */
	if (any && *any)
		count(COUNT_MATCH_NO_ENTRY);
	return 0;
}

#ifdef FENTRY
/*
 * Arguments, then the return value. The verifier takes them for typed until they
 * were in a map. It knows MATCH_ARGS and does not look at what this kernel does not
 * have, as long as the compiler leaves each of them where it stands.
 */
#define ARGUMENT(ctx, place)                                \
	({                                                  \
		u64 value;                                  \
		asm volatile("%0 = *(u64 *)(%1 + %2)"       \
			     : "=r"(value)                  \
			     : "r"(ctx), "i"(8 * (place))); \
		value;                                      \
	})

int enter_pci_match_device(u64 *ctx)
{
	struct call *c = call_of_task(1);

	if (!c)
		return 0; /* its exit is counted as one without entry */
	settle(c);
	c->drv = ARGUMENT(ctx, 0);
	c->dev = ARGUMENT(ctx, 1);
	c->copy = 0;
	if (MATCH_ARGS == 3)
		c->copy = ARGUMENT(ctx, 2);
	barrier();
	return enter_match(c);
}

int leave_pci_match_device(u64 *ctx)
{
	struct call *c = call_of_task(0);

	/* A call of another driver is one whose exit was missed. */
	if (!c || !c->drv || c->drv != ARGUMENT(ctx, 0))
		return no_entry();
	if (MATCH_ARGS == 3)
		c->ret = ARGUMENT(ctx, 3);
	else
		c->ret = ARGUMENT(ctx, 2);
	barrier();
	return leave_match(c);
}
#else
int enter_pci_match_device(struct pt_regs *ctx)
{
	struct call *c = call_of_task(1);

	if (!c)
		return 0; /* its exit is counted as one without entry */
	settle(c);
	c->drv = PT_REGS_PARM1(ctx);
	c->dev = PT_REGS_PARM2(ctx);
	c->copy = PT_REGS_PARM3(ctx) * (MATCH_ARGS == 3);
	return enter_match(c);
}

int leave_pci_match_device(struct pt_regs *ctx)
{
	struct call *c = call_of_task(0);

	if (!c || !c->drv)
		return no_entry();
	c->ret = PT_REGS_RC(ctx);
	return leave_match(c);
}
#endif
