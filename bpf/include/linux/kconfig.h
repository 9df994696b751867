/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The first file of the tree that BCC takes for the kernel's headers (BCC_KERNEL_SOURCE). With it
 * no kernel headers have to be installed: programs here use the bpf() interface only, whose
 * declarations BCC brings along.
 */
#define CONFIG_BPF_SYSCALL	1
#define __always_inline		inline __attribute__((always_inline))
