/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Who calls from another node: a claim in a TCP option of the SYN, with a tag that only the two nodes
 * can compute. What it protects from and what not is in docs/security.md.
 *
 * The option is an experiment (RFC 6994) and the last one of the header, which is where the kernel
 * puts it; anywhere else it does not count. The last four bits of its experiment id say which of the
 * nodes' keys were used, so that one look-up finds the right one. The tag covers the connection's
 * addresses, ports and initial sequence number, and all of the option before the tag.
 */

#define TCP_HEADER		20	/* bytes, without options */
#define TCP_OPTION_EXPERIMENT	253

struct identity_option {
	u8 kind;
	u8 length;
	__be16 experiment;		/* IDENTITY_EXPERIMENT and, in its last bits, the epochs */
	__be32 claim;
	u64 tag;
};

/* A connection as its SYN says it. */
struct identity_tuple {
	struct address source;
	struct address destination;
	__be16 source_port;
	__be16 destination_port;
	__be32 sequence;
} __attribute__((aligned(8)));

static __always_inline u64 identity_tag(const struct node_key *key,
					const struct identity_tuple *tuple,
					const struct identity_option *option)
{
	const u64 *words = (const u64 *)tuple;
	struct sip sip;

	sip_begin(&sip, key->key);
#pragma unroll
	for (int i = 0; i < sizeof(*tuple) / 8; i++)
		sip_word(&sip, words[i]);
	sip_word(&sip, *(const u64 *)option);	/* all before the tag */
	return sip_end(&sip, sizeof(*tuple) + 8);
}

static __always_inline struct node_key *sending_key(u32 node)
{
	struct node_key_id id = { .node = node, .use = KEY_SENDING };

	return node ? node_key_of(&id) : NULL;
}

/* Can the other end's node be sure of who calls? */
static __always_inline bool identity_provable(u32 node, u32 flags, u8 protocol)
{
	if (flags & END_LOCAL)
		return true;
	return protocol == IPPROTO_TCP && sending_key(node);
}

/*
 * A caller of this very node is vouched for by the kernel that decided at its connect(): so a packet
 * that only pretends to come from here is not taken for one.
 */
static __always_inline bool identity_vouched(struct accepting_key *connection)
{
	u64 *since = vouched_at(connection);

	return since && bpf_ktime_get_ns() - *since < VOUCHED_NS;
}

/* What a strict rule allows, it allows to callers that are known for certain. */
static __always_inline void identity_require(struct decision *decision, bool certain)
{
	if (!(decision->flags & DECISION_STRICT) || certain ||
	    !verdict_lets_through(decision->verdict))
		return;
	decision->verdict = VERDICT_DENY;
	decision->reason = REASON_IDENTITY_REQUIRED;
}

/* Write the option into a SYN whose header is in the buffer; 0 if it is there. */
static __always_inline int identity_write(struct bpf_sock_ops *ops, const struct flow *flow,
					  struct identity_tuple *tuple)
{
	struct node_key *key = sending_key(flow->node);
	u32 *header = (u32 *)(long)ops->skb_data, *end = (u32 *)(long)ops->skb_data_end;
	struct identity_option option = {
		.kind = TCP_OPTION_EXPERIMENT,
		.length = sizeof(option),
		.claim = bpf_htonl(flow->claim),
	};

	if (!key || !flow->claim || header + 2 > end)
		return -ENOENT;
	option.experiment = bpf_htons(IDENTITY_EXPERIMENT | key->epochs);
	tuple->source_port = *(__be16 *)header;
	tuple->destination_port = *((__be16 *)header + 1);
	tuple->sequence = header[1];
	option.tag = identity_tag(key, tuple, &option);
	return bpf_store_hdr_opt(ops, &option, sizeof(option), 0);
}

/* No SYN will leave any more: options are written no longer, so that packets cost what they did. */
static __always_inline void identity_done(struct bpf_sock_ops *ops)
{
	u32 flags = ops->bpf_sock_ops_cb_flags;

	if (flags & BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG)
		bpf_sock_ops_cb_flags_set(ops, flags & ~BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG);
}

/*
 * The option of a SYN; false if there is none. Nor does it count in one with data (fast open): the
 * tag says nothing of them, so anybody could have put them there.
 */
static __always_inline bool identity_read(struct __sk_buff *skb, u32 transport,
					  struct identity_option *option)
{
	u8 words;

	if (bpf_skb_load_bytes(skb, transport + 12, &words, 1))
		return false;
	words >>= 4;
	if (words * 4 < TCP_HEADER + sizeof(*option) || skb->len > transport + words * 4 ||
	    bpf_skb_load_bytes(skb, transport + words * 4 - sizeof(*option), option,
			       sizeof(*option)))
		return false;
	return option->kind == TCP_OPTION_EXPERIMENT && option->length == sizeof(*option) &&
	       (bpf_ntohs(option->experiment) & ~IDENTITY_EPOCHS) == IDENTITY_EXPERIMENT;
}

/*
 * Who a SYN says its caller is: 0 if it says nothing, its claim with `from` filled in if that is
 * true, -EPERM if it is not. `from` is whose address it comes from.
 */
static __always_inline s64 identity_verify(struct __sk_buff *skb, u32 transport,
					   const struct identity_tuple *tuple,
					   struct peer *from)
{
	struct node_key_id id = { .node = from->node, .use = KEY_RECEIVING };
	struct resident_key key = { .node = from->node };
	struct identity_option option;
	struct workload *resident;
	struct node_key *shared;

	if (!identity_read(skb, transport, &option))
		return 0;
	if (!from->node)
		return -EPERM;
	id.epochs = bpf_ntohs(option.experiment) & IDENTITY_EPOCHS;
	shared = node_key_of(&id);
	if (!shared || identity_tag(shared, tuple, &option) != option.tag)
		return -EPERM;
	key.claim = bpf_ntohl(option.claim);
	resident = resident_at(&key);
	if (!resident)
		return -EPERM;
	from->identity = resident->identity;
	from->class = workload_class(resident, &tuple->source);
	from->flags = resident->flags;
	return key.claim;
}
