/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * SipHash-2-4 (Aumasson and Bernstein, 2012) over whole 64-bit words, which is all that is needed
 * here. The paper's words are little-endian.
 */

#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define little_endian64(x)	__builtin_bswap64(x)
#else
#define little_endian64(x)	(x)
#endif

struct sip {
	u64 v0;
	u64 v1;
	u64 v2;
	u64 v3;
};

static __always_inline u64 sip_rotated(u64 x, u32 bits)
{
	return x << bits | x >> (64 - bits);
}

static __always_inline void sip_round(struct sip *s)
{
	s->v0 += s->v1;
	s->v1 = sip_rotated(s->v1, 13) ^ s->v0;
	s->v0 = sip_rotated(s->v0, 32);
	s->v2 += s->v3;
	s->v3 = sip_rotated(s->v3, 16) ^ s->v2;
	s->v0 += s->v3;
	s->v3 = sip_rotated(s->v3, 21) ^ s->v0;
	s->v2 += s->v1;
	s->v1 = sip_rotated(s->v1, 17) ^ s->v2;
	s->v2 = sip_rotated(s->v2, 32);
}

/* `key` is 16 bytes as they lie in memory. */
static __always_inline void sip_begin(struct sip *s, const u64 *key)
{
	u64 k0 = little_endian64(key[0]), k1 = little_endian64(key[1]);

	s->v0 = k0 ^ 0x736f6d6570736575ULL;
	s->v1 = k1 ^ 0x646f72616e646f6dULL;
	s->v2 = k0 ^ 0x6c7967656e657261ULL;
	s->v3 = k1 ^ 0x7465646279746573ULL;
}

/* Eight bytes of the message as they lie in memory. */
static __always_inline void sip_word(struct sip *s, u64 word)
{
	word = little_endian64(word);
	s->v3 ^= word;
	sip_round(s);
	sip_round(s);
	s->v0 ^= word;
}

/* The tag, as it is to lie in memory, of a message of so many bytes. */
static __always_inline u64 sip_end(struct sip *s, u64 length)
{
	sip_word(s, little_endian64(length << 56));
	s->v2 ^= 0xff;
	sip_round(s);
	sip_round(s);
	sip_round(s);
	sip_round(s);
	return little_endian64(s->v0 ^ s->v1 ^ s->v2 ^ s->v3);
}
