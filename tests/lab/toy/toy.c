// SPDX-License-Identifier: GPL-2.0-only
/*
 * toy - a PCI driver for tests: a long id_table, and a probe that does as told
 *
 * Its table has more ids than any driver of Debian's kernels, of devices that don't
 * exist. With claim=1 an entry far behind is that of QEMU's pci-testdev.
 *
 *   claim    whether pci-testdev is in the table; at load time
 *   refusal  errno of each probe from now on, positive; 0: it binds
 */
#include <linux/module.h>
#include <linux/pci.h>

#define IDS 1200
#define CLAIMED 1100 /* place of pci-testdev's entry */
#define UNUSED_VENDOR 0xfffe
#define TESTDEV_VENDOR 0x1b36
#define TESTDEV_DEVICE 0x0005

static bool claim;
module_param(claim, bool, 0444);
MODULE_PARM_DESC(claim, "have the ids of QEMU's pci-testdev in the table");

static int refusal;
module_param(refusal, int, 0644);
MODULE_PARM_DESC(refusal, "errno of each probe, 0: it binds");

static struct pci_device_id toy_ids[IDS + 1]; /* and the terminator */

static int toy_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	return -READ_ONCE(refusal);
}

static void toy_remove(struct pci_dev *pdev)
{
}

static struct pci_driver toy_driver = {
	.name = "toy",
	.id_table = toy_ids,
	.probe = toy_probe,
	.remove = toy_remove,
};

static int __init toy_init(void)
{
	int i;

	for (i = 0; i < IDS; i++) {
		toy_ids[i].vendor = UNUSED_VENDOR;
		toy_ids[i].device = i;
		toy_ids[i].subvendor = PCI_ANY_ID;
		toy_ids[i].subdevice = PCI_ANY_ID;
		toy_ids[i].driver_data = i;
	}
	if (claim) {
		toy_ids[CLAIMED].vendor = TESTDEV_VENDOR;
		toy_ids[CLAIMED].device = TESTDEV_DEVICE;
	}
	return pci_register_driver(&toy_driver);
}

static void __exit toy_exit(void)
{
	pci_unregister_driver(&toy_driver);
}

module_init(toy_init);
module_exit(toy_exit);

MODULE_DESCRIPTION("PCI driver for tests of pci-observer");
MODULE_LICENSE("GPL");
