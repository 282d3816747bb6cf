/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* One constant serves every kernel: bcc only asks for "4.11 or later" things. */
#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + (c))
#define LINUX_VERSION_CODE KERNEL_VERSION(6, 1, 0)
