/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * bind(): notes on the socket whose it is, for those who see the socket but not its cgroup
 * (veth.c). That of a listening socket, or one for datagrams, tells that mesh_ingress will decide
 * about what arrives for it.
 */

static __always_inline int bind_stage(struct bpf_sock *sk)
{
	struct settings *cfg = settings_get();
	struct workload *whose;
	u64 cgroup, *owner;

	if (!cfg)
		return 1;
	whose = workload_current(cfg, &cgroup);
	if (!whose || whose->flags & END_HOST)
		return 1;
	owner = receiver_make(sk);
	if (owner)
		*owner = cgroup;
	return 1;
}

int mesh_bind4(struct bpf_sock *sk)
{
	return bind_stage(sk);
}

int mesh_bind6(struct bpf_sock *sk)
{
	return bind_stage(sk);
}
