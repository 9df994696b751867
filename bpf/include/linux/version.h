/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The oldest kernel that Hoplite loads on; only probes, which are not used here, need the exact one. */
#define KERNEL_VERSION(a, b, c)	(((a) << 16) + ((b) << 8) + (c))
#define LINUX_VERSION_CODE	KERNEL_VERSION(5, 10, 0)
