// SPDX-License-Identifier: GPL-2.0-only
/*
 * cases - PCI drivers for tests, one for each kind of id_table that a decision hangs on
 *
 * They list QEMU's pci-testdev and never take it: each write to drivers_probe asks
 * them all.
 *
 *   probed  which drivers were given it, with the driver_data of the id, in order;
 *           a write empties it
 */
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/pci.h>
#include <linux/spinlock.h>

#define TESTDEV .vendor = 0x1b36, .device = 0x0005
#define ANY_SUB .subvendor = PCI_ANY_ID, .subdevice = PCI_ANY_ID
#define NOBODY .vendor = 0xfffe, .device = 0x0001, ANY_SUB

#ifdef HAS_OVERRIDE_ONLY
#define FLAG .override_only = 1
#else /* before 5.15: such an entry is as any other */
#define FLAG
#endif

#define PREFIX "case-"

static char probed[PAGE_SIZE - 1];
static size_t probed_size;
static DEFINE_SPINLOCK(probed_lock);

static int probed_get(char *buffer, const struct kernel_param *kp)
{
	return scnprintf(buffer, PAGE_SIZE, "%s\n", probed);
}

static int probed_set(const char *val, const struct kernel_param *kp)
{
	spin_lock(&probed_lock);
	probed_size = 0;
	probed[0] = '\0';
	spin_unlock(&probed_lock);
	return 0;
}

static const struct kernel_param_ops probed_ops = {
	.set = probed_set,
	.get = probed_get,
};
module_param_cb(probed, &probed_ops, NULL, 0644);
MODULE_PARM_DESC(probed, "driver:driver_data of each probe");

static int case_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	const char *name = to_pci_driver(pdev->dev.driver)->name;

	spin_lock(&probed_lock);
	probed_size += scnprintf(probed + probed_size,
				 sizeof(probed) - probed_size, "%s:%lu ",
				 name + sizeof(PREFIX) - 1, id->driver_data);
	spin_unlock(&probed_lock);
	return -ENODEV;
}

static const struct pci_device_id plain[] = {
	{ TESTDEV, ANY_SUB, .driver_data = 1 },
	{}
};

static const struct pci_device_id flagged[] = {
	{ TESTDEV, ANY_SUB, .driver_data = 1, FLAG },
	{}
};

static const struct pci_device_id hidden[] = {
	{ TESTDEV, ANY_SUB, .driver_data = 1, FLAG },
	{ TESTDEV, ANY_SUB, .driver_data = 2 },
	{}
};

static const struct pci_device_id twice[] = {
	{ TESTDEV, ANY_SUB, .driver_data = 1 },
	{ TESTDEV, ANY_SUB, .driver_data = 2 },
	{}
};

static const struct pci_device_id exact[] = {
	{ TESTDEV, .subvendor = 0x1af4, .subdevice = 0x1100, .driver_data = 1 },
	{}
};

static const struct pci_device_id vendor[] = {
	{ .vendor = 0x1b36, .device = PCI_ANY_ID, ANY_SUB, .driver_data = 1 },
	{}
};

static const struct pci_device_id class[] = {
	{ TESTDEV, ANY_SUB, .class = 0x00ffff, .class_mask = 0xffff00,
	  .driver_data = 1 },
	{}
};

/* Equal to the device's in 16 bits alone. */
static const struct pci_device_id wide[] = {
	{ .vendor = 0x11b36, .device = 0x0005, ANY_SUB, .driver_data = 1 },
	{}
};

static const struct pci_device_id empty[] = {
	{}
};

/* Dynids must have a driver_data of the table's. */
static const struct pci_device_id listed[] = {
	{ TESTDEV, ANY_SUB, .driver_data = 1 },
	{ NOBODY, .driver_data = 11 },
	{ NOBODY, .driver_data = 12 },
	{}
};

#define CASE(case_name, table) \
	{ .name = PREFIX case_name, .id_table = table, .probe = case_probe }

static struct pci_driver drivers[] = {
	CASE("plain", plain),
	CASE("flagged", flagged),
	CASE("hidden", hidden),
	CASE("twice", twice),
	CASE("exact", exact),
	CASE("vendor", vendor),
	CASE("class", class),
	CASE("wide", wide),
	CASE("empty", empty),
	CASE("listed", listed),
	CASE("added", NULL),
};

static void unregister_first(int count)
{
	while (count)
		pci_unregister_driver(&drivers[--count]);
}

static int __init cases_init(void)
{
	int i, error;

	for (i = 0; i < ARRAY_SIZE(drivers); i++) {
		error = pci_register_driver(&drivers[i]);
		if (error) {
			unregister_first(i);
			return error;
		}
	}
	return 0;
}

static void __exit cases_exit(void)
{
	unregister_first(ARRAY_SIZE(drivers));
}

module_init(cases_init);
module_exit(cases_exit);

MODULE_DESCRIPTION("PCI drivers for tests of pci-observer");
MODULE_LICENSE("GPL");
