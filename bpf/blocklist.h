/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Addresses that nobody in the mesh talks to, whatever policies say. */

static __always_inline bool decision_blocked(const struct settings *cfg,
					     const struct address *address,
					     struct decision *decision)
{
	struct block_key key = { .bits = 128, .address = *address };
	u32 *rule;

	if (!(cfg->flags & SETTINGS_BLOCKED))
		return false;
	rule = blocked_by(&key);
	if (!rule || !*rule)
		return false;
	decision->rule = *rule;
	decision->verdict = VERDICT_DENY;
	decision->reason = REASON_BLOCKED;
	return true;
}

/* Whom a workload may not speak with because that address, or the workload's own, is blocked. */
static __always_inline void workload_blocked(const struct settings *cfg,
					     const struct workload *workload,
					     const struct address *peer, struct decision *decision)
{
	if (!(workload->flags & END_BLOCKED)) {
		decision_blocked(cfg, peer, decision);
		return;
	}
	decision->rule = 0;
	decision->verdict = VERDICT_DENY;
	decision->reason = REASON_BLOCKED;
}
