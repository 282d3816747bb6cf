/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Empty on purpose: bcc includes it, our programs need nothing from it. */
