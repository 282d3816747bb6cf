// SPDX-License-Identifier: GPL-2.0-only
/*
 * mutant - a livepatch that answers in the place of pci_match_device(), wrongly
 *
 *   mutation  what is wrong, by name; at load time. "none": nothing is
 *   dummy     address of the kernel's own pci_device_id_any
 *
 * MATCH_ARGS, HAS_OVERRIDE_ONLY and OVERRIDE_IN_DEVICE come from the kernel's types:
 * its headers don't tell which of two fields PCI reads.
 */
#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/spinlock.h>
#include <linux/string.h>

enum mutation {
	NONE,
	MISMATCH_IGNORED, /* an override that names another driver is as none */
	OVERRIDE_BY_PREFIX, /* an override counts if it begins with the name */
	DYNIDS_IGNORED,
	STATIC_FIRST, /* the table goes before the dynids */
	LAST_DYNID, /* the last dynid that matches wins */
	LAST_ENTRY, /* the last entry that matches wins */
	FLAG_IGNORED, /* an override_only entry is as any other */
	NO_DUMMY, /* an override alone makes no match */
	EARLY_END, /* the last entry of a table is never looked at */
	MASK_IGNORED, /* where a class is asked for, all of its bits are */
	SUBVENDOR_NEVER_ANY, /* its wildcard is taken for a number */
	DEVICE_NEVER_ANY,
	SQUEEZED, /* an entry's vendor is compared in 16 bits */
	RFC_2021_06_03,
	RFC_2021_06_14,
	RFC_2021_06_14_WITHOUT_C,
	COPIED, /* right, but what is returned is a copy of the entry */
	MUTATIONS
};

static const char *const names[MUTATIONS] = {
	[NONE] = "none",
	[MISMATCH_IGNORED] = "mismatch_ignored",
	[OVERRIDE_BY_PREFIX] = "override_by_prefix",
	[DYNIDS_IGNORED] = "dynids_ignored",
	[STATIC_FIRST] = "static_first",
	[LAST_DYNID] = "last_dynid",
	[LAST_ENTRY] = "last_entry",
	[FLAG_IGNORED] = "flag_ignored",
	[NO_DUMMY] = "no_dummy",
	[EARLY_END] = "early_end",
	[MASK_IGNORED] = "mask_ignored",
	[SUBVENDOR_NEVER_ANY] = "subvendor_never_any",
	[DEVICE_NEVER_ANY] = "device_never_any",
	[SQUEEZED] = "squeezed",
	[RFC_2021_06_03] = "rfc_2021_06_03",
	[RFC_2021_06_14] = "rfc_2021_06_14",
	[RFC_2021_06_14_WITHOUT_C] = "rfc_2021_06_14_without_c",
	[COPIED] = "copied",
};

static char *mutation = "none";
module_param(mutation, charp, 0444);
MODULE_PARM_DESC(mutation, "what is wrong, by name");

static ulong dummy;
module_param(dummy, ulong, 0400);
MODULE_PARM_DESC(dummy, "address of pci_device_id_any");

static enum mutation wrong;

/* As the kernel has it, which keeps it to itself. */
struct pci_dynid {
	struct list_head node;
	struct pci_device_id id;
};

static bool flagged(const struct pci_device_id *id)
{
#ifdef HAS_OVERRIDE_ONLY
	return id->override_only;
#else
	return false;
#endif
}

static bool same(u32 wanted, u32 number)
{
	return wanted == PCI_ANY_ID || wanted == number;
}

static bool vendor_fits(const struct pci_device_id *id, struct pci_dev *dev)
{
	if (wrong == SQUEEZED && id->vendor != PCI_ANY_ID)
		return (u16)id->vendor == dev->vendor;
	return same(id->vendor, dev->vendor);
}

static bool subvendor_fits(const struct pci_device_id *id, struct pci_dev *dev)
{
	if (wrong == SUBVENDOR_NEVER_ANY)
		return id->subvendor == dev->subsystem_vendor;
	return same(id->subvendor, dev->subsystem_vendor);
}

static bool device_fits(const struct pci_device_id *id, struct pci_dev *dev)
{
	if (wrong == DEVICE_NEVER_ANY)
		return id->device == dev->device;
	return same(id->device, dev->device);
}

static bool class_fits(const struct pci_device_id *id, struct pci_dev *dev)
{
	if (wrong == MASK_IGNORED && id->class_mask)
		return id->class == dev->class;
	return !((id->class ^ dev->class) & id->class_mask);
}

static bool fits(const struct pci_device_id *id, struct pci_dev *dev)
{
	return vendor_fits(id, dev) && device_fits(id, dev) &&
	       subvendor_fits(id, dev) &&
	       same(id->subdevice, dev->subsystem_device) &&
	       class_fits(id, dev);
}

static bool goes_on(const struct pci_device_id *id)
{
	return id->vendor || id->subvendor || id->class_mask;
}

/* The entry that counts, flagged ones too if `all`. */
static const struct pci_device_id *
entry_of(struct pci_driver *drv, struct pci_dev *dev, bool all)
{
	const struct pci_device_id *id, *found = NULL;

	for (id = drv->id_table; id && goes_on(id); id++) {
		if (wrong == EARLY_END && !goes_on(id + 1))
			break;
		if (!fits(id, dev) || (flagged(id) && !all))
			continue;
		found = id;
		if (wrong != LAST_ENTRY)
			break;
	}
	return found;
}

/*
 * The dynid that counts: where there is room for a copy that, since without the
 * lock the id may be freed.
 */
static const struct pci_device_id *dynid_of(struct pci_driver *drv,
					    struct pci_dev *dev,
					    struct pci_device_id *copy)
{
	const struct pci_device_id *found = NULL;
	struct pci_dynid *dynid;

	spin_lock(&drv->dynids.lock);
	list_for_each_entry(dynid, &drv->dynids.list, node) {
		if (!fits(&dynid->id, dev))
			continue;
		found = &dynid->id;
		if (wrong != LAST_DYNID)
			break;
	}
	if (found && copy) {
		*copy = *found;
		found = copy;
	}
	spin_unlock(&drv->dynids.lock);
	return found;
}

static bool names_driver(const char *override, const char *name)
{
	if (wrong == OVERRIDE_BY_PREFIX)
		return !strncmp(override, name, strlen(name));
	return !strcmp(override, name);
}

enum named { NOTHING, THIS, ANOTHER };

static enum named named_by_override(struct pci_driver *drv, struct pci_dev *dev)
{
	enum named named = NOTHING;
	const char *override;

#ifdef OVERRIDE_IN_DEVICE
	spin_lock(&dev->dev.driver_override.lock);
	override = dev->dev.driver_override.name;
#else
	override = dev->driver_override;
#endif
	if (override)
		named = names_driver(override, drv->name) ? THIS : ANOTHER;
#ifdef OVERRIDE_IN_DEVICE
	spin_unlock(&dev->dev.driver_override.lock);
#endif
	return named;
}

/*
 * The proposals of June 2021: the first entry decides, whether it counts or not. One of
 * them asks the same of dynids, which have no flag, and knows no dummy.
 */
static const struct pci_device_id *proposed(const struct pci_device_id *dynid,
					    const struct pci_device_id *entry,
					    bool named)
{
	const struct pci_device_id *first = dynid ? dynid : entry;
	bool with_c = wrong != RFC_2021_06_14_WITHOUT_C;

	if (!first)
		return named && wrong != RFC_2021_06_03 ? (void *)dummy : NULL;
	if (dynid && wrong != RFC_2021_06_03)
		return dynid;
	if (!dynid && flagged(first) && !named)
		return NULL;
	if (named && with_c && (dynid || !flagged(first)))
		return NULL;
	return first;
}

static const struct pci_device_id *
answer(struct pci_driver *drv, struct pci_dev *dev, struct pci_device_id *copy)
{
	enum named named = named_by_override(drv, dev);
	const struct pci_device_id *dynid, *entry;

	if (named == ANOTHER && wrong != MISMATCH_IGNORED)
		return NULL;
	dynid = wrong == DYNIDS_IGNORED ? NULL : dynid_of(drv, dev, copy);
	if (wrong == RFC_2021_06_03 || wrong == RFC_2021_06_14 ||
	    wrong == RFC_2021_06_14_WITHOUT_C)
		return proposed(dynid, entry_of(drv, dev, true), named);
	entry = entry_of(drv, dev, named == THIS || wrong == FLAG_IGNORED);
	if (dynid && !(wrong == STATIC_FIRST && entry))
		return dynid;
	if (entry)
		return entry;
	return named == THIS && wrong != NO_DUMMY ? (void *)dummy : NULL;
}

static const struct pci_device_id *
finish(struct pci_driver *drv, const struct pci_device_id *found)
{
	static struct pci_device_id elsewhere;

	if (wrong != COPIED || !found || found == (void *)dummy ||
	    strncmp(drv->name, "case-", 5))
		return found;
	elsewhere = *found;
	return &elsewhere;
}

/* Another name than the function's that it replaces, or that would be ambiguous. */
#if MATCH_ARGS == 3
static noinline const struct pci_device_id *
mutant_match(struct pci_driver *drv, struct pci_dev *dev,
	     struct pci_device_id *copy)
{
	return finish(drv, answer(drv, dev, copy));
}
#else
static noinline const struct pci_device_id *
mutant_match(struct pci_driver *drv, struct pci_dev *dev)
{
	return finish(drv, answer(drv, dev, NULL));
}
#endif

static struct klp_func funcs[] = {
	{ .old_name = "pci_match_device", .new_func = mutant_match },
	{}
};

static struct klp_object objects[] = {
	{ .funcs = funcs }, /* of the kernel itself */
	{}
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objects,
};

static int __init mutant_init(void)
{
	int i;

	for (i = 0; i < MUTATIONS; i++) {
		if (strcmp(names[i], mutation))
			continue;
		wrong = i;
		return dummy ? klp_enable_patch(&patch) : -EINVAL;
	}
	return -EINVAL;
}

static void __exit mutant_exit(void)
{
}

module_init(mutant_init);
module_exit(mutant_exit);

MODULE_DESCRIPTION("wrong answers for tests of pci-observer");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
