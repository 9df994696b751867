/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Learns addresses from DNS answers (RFC 1035) on their way to a workload, before it can connect to
 * them. Nothing is held up or changed. An answer counts if it comes from a resolver that the agent
 * trusts, has one question, for a name that policies speak of, and is complete; all A and AAAA records
 * of its answer section are then addresses of that name, aliases included.
 *
 * Names are hashed from their end, so that one pass over a name gives the hash of every suffix of it:
 * FNV-1a, 64 bits, over its bytes in reverse, lengths of labels included, letters in lower case.
 */

#define DNS_HEADER	12
#define DNS_NAME	255		/* bytes of the longest name */
#define DNS_LABELS	40		/* names with more are not learnt from */
#define DNS_STEPS	64		/* labels and records that are looked at, at most */
#define DNS_A		1
#define DNS_AAAA	28
#define DNS_IN		1
#define DNS_QUERY_BITS	0xfa0f		/* QR, opcode, TC and RCODE of the flags */
#define DNS_ANSWER	0x8000

#define FNV_BASIS	0xcbf29ce484222325ULL
#define FNV_PRIME	0x100000001b3ULL

#define NSEC		1000000000ULL

struct dns_header {
	__be16 id;
	__be16 flags;
	__be16 questions;
	__be16 answers;
	__be16 authorities;
	__be16 additional;
};

struct dns_record {			/* what follows a record's name */
	__be16 type;
	__be16 class;
	__be16 ttl[2];
	__be16 length;
};

/*
 * What the loops below remember is kept in the scratch room and not in registers, and they branch as
 * little as can be: the verifier then takes one round of a loop for all of them.
 */

/* An index that the verifier can see to be one, whatever the compiler makes of it. */
static __always_inline u32 within_name(u32 index)
{
	asm volatile("" : "+r"(index));
	return index & 0xff;
}

/* 1 if a < b, otherwise 0; both are small. The compiler must not see that this is a comparison. */
static __always_inline u64 is_less(u64 a, u64 b)
{
	u64 difference = a - b, less;

	asm volatile("" : "+r"(difference));
	less = difference >> 63;
	asm volatile("" : "+r"(less));
	return less;
}

/* Where the labels of the question's name begin, and its length; false if it is none to learn from. */
static __always_inline bool dns_labels(struct __sk_buff *skb, struct name *name)
{
	u64 available = (u64)skb->len - name->at;

	if (available > DNS_NAME)
		available = DNS_NAME;
	/*
	 * The verifier shall see these bounds, and no others; and one at a time, for the compiler makes
	 * one comparison of two, of a copy, from which Linux 5.10 learns nothing.
	 */
	asm volatile("" : "+r"(available));
	if (available > DNS_NAME)
		return false;
	asm volatile("" : "+r"(available));
	if (available < 6 || bpf_skb_load_bytes(skb, name->at, name->bytes, available))
		return false;
	name->length = 0;
	name->labels = 0;
	for (int i = 0; i < DNS_LABELS; i++) {
		u8 byte = name->bytes[within_name(name->length)];

		if (!byte || byte > 63)
			break;
		name->starts[i] = name->length;
		name->labels = i + 1;
		name->length = within_name(name->length + byte + 1);
	}
	/* Not the root, not too many labels, not compressed. */
	return name->labels && !name->bytes[within_name(name->length)];
}

/* The hash of every suffix of the name. */
static __always_inline void dns_hash(struct name *name)
{
	u32 length = name->length;
	u64 hash = FNV_BASIS;

	for (int i = DNS_NAME - 1; i >= 0; i--) {
		u32 byte = name->bytes[i];
		u64 inside = is_less(i, length);

		byte += is_less(byte, 'Z' + 1) * is_less('A' - 1, byte) * ('a' - 'A');
		hash = FNV_BASIS + ((hash ^ byte) * FNV_PRIME - FNV_BASIS) * inside;
		name->hashes[i] = hash;
	}
}

/* The patterns that the name fits; false if there are none. */
static __always_inline bool dns_patterns(struct name *name)
{
	__builtin_memset(name->patterns, 0, sizeof(name->patterns));
	name->count = 0;
	for (int i = 0; i < DNS_LABELS; i++) {
		struct domain_key key = {};
		u32 *pattern;

		if (i >= name->labels)
			break;
		key.hash = name->hashes[within_name(name->starts[i])];
		key.wildcard = i != 0;
		pattern = domain_pattern(&key);
		if (pattern && name->count < LEARNT_PATTERNS) {
			name->patterns[name->count & (LEARNT_PATTERNS - 1)] = *pattern;
			name->count++;
		}
	}
	return name->count;
}

/* Patterns that the address has from other names join the new ones, as far as there is room. */
static __always_inline void learnt_join(struct learnt *fresh, const struct learnt *known,
					struct name *name)
{
	name->used = name->count;
	for (int i = 0; i < LEARNT_PATTERNS; i++) {
		u32 pattern = known->patterns[i];
		bool there = !pattern | (pattern == name->patterns[0]) |
			     (pattern == name->patterns[1]) | (pattern == name->patterns[2]) |
			     (pattern == name->patterns[3]);

		if (there)
			continue;
		if (name->used >= LEARNT_PATTERNS) {
			loss(LOSS_NAME);
			break;
		}
		fresh->patterns[name->used & (LEARNT_PATTERNS - 1)] = pattern;
		name->used++;
	}
}

static __always_inline void dns_learn_address(struct name *name, u64 now)
{
	struct learnt *known = learnt_at(&name->address);
	struct learnt *fresh = &name->fresh;

	__builtin_memcpy(fresh->patterns, name->patterns, sizeof(fresh->patterns));
	fresh->expires = name->expires;
	if (learnt_is_current(known, now)) {	/* other names led here too */
		if (known->expires > fresh->expires)
			fresh->expires = known->expires;
		learnt_join(fresh, known, name);
	}
	if (learnt_put(&name->address, fresh))
		loss(LOSS_NAME);
}

/* One record of the answer section, its name behind us; false if it is cut short. */
static __always_inline bool dns_answer(struct __sk_buff *skb, struct name *name, u64 now)
{
	struct dns_record record;
	u32 length, family;
	__be32 ip;

	if (bpf_skb_load_bytes(skb, name->at, &record, sizeof(record)))
		return false;
	name->at += sizeof(record);
	length = bpf_ntohs(record.length);
	name->expires = (u64)bpf_ntohs(record.ttl[0]) << 16 | bpf_ntohs(record.ttl[1]);
	name->expires = now + (name->expires + NAME_GRACE_SECONDS) * NSEC;
	family = record.class == bpf_htons(DNS_IN) ? bpf_ntohs(record.type) : 0;
	if (family == DNS_A && length == 4) {
		if (bpf_skb_load_bytes(skb, name->at, &ip, sizeof(ip)))
			return false;
		address_from4(&name->address, ip);
	} else if (family == DNS_AAAA && length == 16) {
		if (bpf_skb_load_bytes(skb, name->at, &name->address, sizeof(name->address)))
			return false;
	} else {
		family = 0;
	}
	name->at += length;
	if (family)
		dns_learn_address(name, now);
	return true;
}

static __always_inline bool dns_header(struct __sk_buff *skb, struct name *name)
{
	struct dns_header header;

	if (bpf_skb_load_bytes(skb, name->at, &header, sizeof(header)))
		return false;
	name->at += sizeof(header);
	name->left = bpf_ntohs(header.answers);
	return (header.flags & bpf_htons(DNS_QUERY_BITS)) == bpf_htons(DNS_ANSWER) &&
	       header.questions == bpf_htons(1) && header.answers;
}

static __always_inline void dns_records(struct __sk_buff *skb, struct name *name)
{
	u64 now = bpf_ktime_get_ns();

	for (int i = 0; i < DNS_STEPS; i++) {
		u8 byte;

		if (!name->left || bpf_skb_load_bytes(skb, name->at, &byte, 1))
			break;
		if (byte && byte < 64) {	/* a label of the record's name */
			name->at += byte + 1;
			continue;
		}
		name->at += byte ? 2 : 1;	/* a pointer ends a name as well as the root does */
		if (!dns_answer(skb, name, now))
			break;
		name->left--;
	}
	if (name->left)
		loss(LOSS_NAME);
}

/*
 * Three programs, each of which ends in the next: what one has found out, the verifier of the next
 * takes for anything. mesh_ingress calls the first for a datagram that it lets through.
 */
int mesh_dns(struct __sk_buff *skb)
{
	struct name *name = name_scratch();
	struct packet packet = {};

	if (!name || packet_parse(skb, true, &packet) || packet.protocol != IPPROTO_UDP)
		return 1;
	name->at = packet.payload_at;
	if (dns_header(skb, name) && dns_labels(skb, name))
		call(skb, CALL_DNS_NAME);
	return 1;
}

int mesh_dns_name(struct __sk_buff *skb)
{
	struct name *name = name_scratch();

	if (!name)
		return 1;
	dns_hash(name);
	name->at += name->length + 1 + 4;	/* its root, type and class */
	if (dns_patterns(name))
		call(skb, CALL_DNS_RECORDS);
	return 1;
}

int mesh_dns_records(struct __sk_buff *skb)
{
	struct name *name = name_scratch();

	if (name)
		dns_records(skb, name);
	return 1;
}
