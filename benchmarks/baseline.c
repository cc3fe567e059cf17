/*
 * The table work of the benchmarks in plain C: what a kernel's IOMMU driver would do for it, and nothing else.
 *
 * It shares no code with hitless. The words are written down here from the specifications: AMD I/O Virtualization
 * Technology (48882) section 2.2.3; Intel VT-d section 9.8; Arm ARM (DDI0487) chapter D8, stage 2, 4K granule. All three
 * have tables of 512 words over four levels here, and leaves of 4K, 2M and 1G. Level 0 maps the smallest page.
 *
 * Memory is one arena at a physical base address. Tables come from a bump in ascending order, parent before child, in
 * IOVA order.
 */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef uint64_t u64;

enum { ENTRIES = 512, LEVELS = 4, PAGE_LG2 = 12, STRIDE = 9 };

static const u64 ADDRESS = 0x000ffffffffff000;
static const u64 NOTHING = ~(u64)0;

struct format {
	u64 leaf[3];     /* the bits beside the address of a readable and writable leaf, by level */
	u64 pointer[4];  /* those of a pointer in a table of that level */
	u64 present;     /* any of these: present */
	u64 kind, leaf_kind; /* above level 0 a leaf is what has leaf_kind in the bits of kind */
	u64 hardware;    /* accessed and dirty of a leaf */
};

enum vendor { AMD_V1, INTEL_SECOND_STAGE, ARM_STAGE2, FORMATS };

static const struct format formats[FORMATS] = {
	[AMD_V1] = {
		/* PR 0, NextLevel 11:9 (0: leaf), FC 60, IR 61, IW 62 */
		.leaf = { 0x7000000000000001, 0x7000000000000001, 0x7000000000000001 },
		.pointer = { 0, 0x6000000000000201, 0x6000000000000401, 0x6000000000000601 },
		.present = 0x1,
		.kind = 0xe00, .leaf_kind = 0,
		.hardware = 0x60,
	},
	[INTEL_SECOND_STAGE] = {
		/* R 0, W 1, EMT 5:3 (6: write-back), PS 7, SNP 11 */
		.leaf = { 0x833, 0x8b3, 0x8b3 },
		.pointer = { 0, 0x3, 0x3, 0x3 },
		.present = 0x3,
		.kind = 0x80, .leaf_kind = 0x80,
	},
	[ARM_STAGE2] = {
		/* 1:0 (01 block, 11 page or table), MemAttr 5:2 (write-back), S2AP 7:6, SH 9:8 (inner), AF 10 */
		.leaf = { 0x7ff, 0x7fd, 0x7fd },
		.pointer = { 0, 0x3, 0x3, 0x3 },
		.present = 0x1,
		.kind = 0x2, .leaf_kind = 0,
	},
};

/* One address space: memory and root, where the next table comes from, and how much of it there is. */
struct space {
	u64 *words;   /* the first word of the arena */
	u64 base_pa;  /* its physical address */
	u64 root_pa;
	u64 next_pa;  /* the bump */
	u64 end_pa;
	u64 format;
};

struct range { u64 start, end; };
struct change { u64 *entry, old, new; };

/* Memory to work in, as large as its user needs it: that a kernel would have at hand as well. */
struct work {
	struct range *sorted, *other; /* as many as ranges */
	struct change *cuts;          /* as many as 1G and 2M leaves may be cut */
	struct change *places;        /* as many as leaves may be replaced */
	u64 *freed;                   /* as many as tables may be freed */
};

static inline const struct format *format_of(const struct space *space)
{
	return &formats[space->format];
}

static inline u64 *at(const struct space *space, u64 pa)
{
	return space->words + ((pa - space->base_pa) >> 3);
}

static inline unsigned lo(int level)
{
	return PAGE_LG2 + STRIDE * level;
}

static inline unsigned index_of(u64 iova, int level)
{
	return iova >> lo(level) & (ENTRIES - 1);
}

static inline int is_leaf(const struct format *format, u64 word, int level)
{
	return !level || (word & format->kind) == format->leaf_kind;
}

static inline void fill(u64 *table, u64 first, u64 step)
{
	for (int i = 0; i < ENTRIES; i++)
		table[i] = first + i * step;
}

static inline u64 new_table(struct space *space)
{
	if (space->next_pa == space->end_pa)
		return 0;
	u64 pa = space->next_pa;
	space->next_pa = pa + 4096;
	return pa;
}

/* What a walker reads next is not older than what was stored before: a release fence, as before a doorbell. */
static inline void barrier(void)
{
	__atomic_thread_fence(__ATOMIC_RELEASE);
}

/*
 * Rounds of stores. Each is a compare-and-exchange, as an entry is whose A and D a walker may set meanwhile; they
 * return the number of entries that held something else.
 */
static inline int exchange(u64 *entry, u64 old, u64 new)
{
	return !__atomic_compare_exchange_n(entry, &old, new, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

static size_t store_new(const struct change *changes, size_t count)
{
	size_t raced = 0;
	for (size_t i = 0; i < count; i++)
		raced += exchange(changes[i].entry, changes[i].old, changes[i].new);
	barrier();
	return raced;
}

static size_t store_empty(const struct change *changes, size_t count)
{
	size_t raced = 0;
	for (size_t i = 0; i < count; i++)
		raced += exchange(changes[i].entry, changes[i].old, 0);
	barrier();
	return raced;
}

static size_t store_after_empty(const struct change *changes, size_t count)
{
	size_t raced = 0;
	for (size_t i = 0; i < count; i++)
		raced += exchange(changes[i].entry, 0, changes[i].new);
	barrier();
	return raced;
}

/* Sort ranges by their start: a radix sort, eleven bits of the page number a pass. */
enum { DIGIT = 11 };

static struct range *sort(const struct range *ranges, size_t count, struct work *work)
{
	struct range *from = (struct range *)ranges, *to = work->sorted, *spare = work->other;
	u64 all = 0;

	for (size_t i = 0; i < count; i++)
		all |= ranges[i].start;
	for (unsigned shift = PAGE_LG2; shift == PAGE_LG2 || (shift < 64 && all >> shift); shift += DIGIT) {
		uint32_t first[1 << DIGIT] = { 0 }, sum = 0;

		for (size_t i = 0; i < count; i++)
			first[from[i].start >> shift & ((1 << DIGIT) - 1)]++;
		for (int digit = 0; digit < 1 << DIGIT; digit++) {
			uint32_t here = first[digit];
			first[digit] = sum;
			sum += here;
		}
		for (size_t i = 0; i < count; i++)
			to[first[from[i].start >> shift & ((1 << DIGIT) - 1)]++] = from[i];
		from = to;
		to = spare;
		spare = from;
	}
	return from;
}

/* Ranges that touch, as one; they are sorted and disjoint. */
static size_t join(struct range *ranges, size_t count)
{
	size_t last = 0;
	for (size_t i = 1; i < count; i++) {
		if (ranges[i].start == ranges[last].end)
			ranges[last].end = ranges[i].end;
		else
			ranges[++last] = ranges[i];
	}
	return count ? last + 1 : 0;
}

/* The table that a leaf becomes: the same translation in leaves of the next size. */
static u64 cut(struct space *space, u64 word, int level)
{
	const struct format *format = format_of(space);
	u64 pa = new_table(space);

	if (pa)
		fill(at(space, pa), word ^ format->leaf[level] ^ format->leaf[level - 1], (u64)1 << lo(level - 1));
	return pa;
}

static inline u64 moved(u64 word, u64 pa)
{
	return (word & ~ADDRESS) | pa;
}

/* What one pass over the ranges leaves to be stored. */
struct survey {
	size_t cuts, places;
};

/*
 * Cut what ranges reach into, build the new tables, and note the stores. The path to the last entry is kept, so that
 * each table is looked up once. Returns 0 if tables ran out, or a range is not mapped.
 */
static int survey(struct space *space, const struct range *ranges, size_t count, u64 new_pa, struct work *work,
		  struct survey *found)
{
	const struct format *format = format_of(space);
	struct change *cuts = work->cuts, *places = work->places;
	u64 *gigabytes = NULL, *megabytes = NULL, *pages = NULL;
	u64 terabyte = NOTHING, gigabyte = NOTHING, megabyte = NOTHING;
	int fresh = 0; /* the table of 2M entries is new: no walker reaches it yet */

	for (size_t i = 0; i < count; i++) {
		u64 iova = ranges[i].start, end = ranges[i].end;

		while (iova < end) {
			if (iova >> lo(3) != terabyte) {
				u64 word = at(space, space->root_pa)[index_of(iova, 3)];
				if (!(word & format->present))
					return 0;
				terabyte = iova >> lo(3);
				gigabytes = at(space, word & ADDRESS);
			}
			if (iova >> lo(2) != gigabyte) {
				u64 *entry = gigabytes + index_of(iova, 2), word = *entry;
				if (!(word & format->present))
					return 0;
				fresh = is_leaf(format, word, 2);
				if (fresh && !(iova & (((u64)1 << lo(2)) - 1)) && end - iova >= (u64)1 << lo(2)) {
					*places++ = (struct change){ entry, word, moved(word, new_pa + iova) };
					iova += (u64)1 << lo(2);
					continue;
				}
				u64 pa = fresh ? cut(space, word, 2) : word & ADDRESS;
				if (!pa)
					return 0;
				if (fresh)
					*cuts++ = (struct change){ entry, word, pa | format->pointer[2] };
				gigabyte = iova >> lo(2);
				megabytes = at(space, pa);
			}
			if (iova >> lo(1) != megabyte) {
				u64 *entry = megabytes + index_of(iova, 1), word = *entry;
				int leaf = is_leaf(format, word, 1);
				if (!(word & format->present))
					return 0;
				if (leaf && !(iova & (((u64)1 << lo(1)) - 1)) && end - iova >= (u64)1 << lo(1)) {
					*places++ = (struct change){ entry, word, moved(word, new_pa + iova) };
					iova += (u64)1 << lo(1);
					continue;
				}
				u64 pa = leaf ? cut(space, word, 1) : word & ADDRESS;
				if (!pa)
					return 0;
				if (leaf && fresh)
					*entry = pa | format->pointer[1];
				else if (leaf)
					*cuts++ = (struct change){ entry, word, pa | format->pointer[1] };
				megabyte = iova >> lo(1);
				pages = at(space, pa);
			}
			u64 stop = (megabyte + 1) << lo(1);
			for (stop = stop < end ? stop : end; iova < stop; iova += 1 << PAGE_LG2) {
				u64 *entry = pages + index_of(iova, 0), word = *entry;
				if (!(word & format->present))
					return 0;
				*places++ = (struct change){ entry, word, moved(word, new_pa + iova) };
			}
		}
	}
	found->cuts = cuts - work->cuts;
	found->places = places - work->places;
	return 1;
}

/* The rounds of stores that follow the cut's wait. */
enum rounds { REPLACE, WIPE, BREAK_BEFORE_MAKE };

/*
 * Bring ranges, in any order, to new addresses: IOVA + new_pa. Everything is prepared first; then come the rounds of
 * stores: the cuts, and what their vendor does to the leaves. Waits stand between them on hardware. Returns the
 * number of leaves that were replaced; 0 if tables ran out, a range is not mapped, or somebody else stored.
 */
size_t refresh(struct space *space, const struct range *ranges, size_t count, u64 new_pa, int rounds, struct work *work)
{
	struct range *sorted = sort(ranges, count, work);
	struct survey found;
	size_t raced;

	if (!survey(space, sorted, join(sorted, count), new_pa, work, &found))
		return 0;
	barrier();
	raced = store_new(work->cuts, found.cuts);
	switch (rounds) {
	case REPLACE:
		raced += store_new(work->places, found.places);
		break;
	case WIPE:
		raced += store_empty(work->places, found.places);
		break;
	default:
		raced += store_empty(work->places, found.places);
		raced += store_after_empty(work->places, found.places);
	}
	return raced ? 0 : found.places;
}

/* A table of a level with all that is below it, wholly mapped by leaves of leaf_level. */
static u64 mapped(struct space *space, u64 iova, u64 end, u64 pa, int level, int leaf_level)
{
	const struct format *format = format_of(space);
	u64 table = new_table(space), step = (u64)1 << lo(level), last;
	u64 *words = at(space, table);

	if (!table)
		return 0;
	last = (iova | (step * ENTRIES - 1)) + 1;
	last = last < end ? last : end;
	if (level == leaf_level) {
		u64 *word = words + index_of(iova, level);
		if (last - iova == step * ENTRIES)
			fill(words, pa | format->leaf[level], step);
		else
			for (u64 here = iova; here < last; here += step)
				*word++ = (pa + here - iova) | format->leaf[level];
		return table;
	}
	for (u64 here = iova; here < last;) {
		u64 next = (here | (step - 1)) + 1, child;
		next = next < last ? next : last;
		child = mapped(space, here, next, pa + here - iova, level - 1, leaf_level);
		if (!child)
			return 0;
		words[index_of(here, level)] = child | format->pointer[level];
		here = next;
	}
	return table;
}

/*
 * Map [iova, end) to pa on, with leaves of one level, under an empty root. Tables below the root are built off-line;
 * the stores to the root come last, after a barrier. Returns 1; 0 if tables ran out.
 */
int map(struct space *space, u64 iova, u64 end, u64 pa, int leaf_level)
{
	const struct format *format = format_of(space);
	u64 *root = at(space, space->root_pa), pointers[ENTRIES] = { 0 };
	u64 first = iova;

	while (iova < end) {
		u64 next = (iova | (((u64)1 << lo(3)) - 1)) + 1, child;
		next = next < end ? next : end;
		child = mapped(space, iova, next, pa + iova - first, 2, leaf_level);
		if (!child)
			return 0;
		pointers[index_of(iova, 3)] = child | format->pointer[3];
		iova = next;
	}
	barrier();
	for (int i = 0; i < ENTRIES; i++)
		if (pointers[i])
			__atomic_store_n(root + i, pointers[i], __ATOMIC_RELAXED);
	barrier();
	return 1;
}

/*
 * What walks a million times is compiled once a format, as a driver is: `each` is inlined with the format as a constant.
 */
#define FOR_EACH_FORMAT(space, each, ...)                                         \
	switch ((space)->format) {                                                \
	case AMD_V1: each(&formats[AMD_V1], __VA_ARGS__); break;                  \
	case INTEL_SECOND_STAGE: each(&formats[INTEL_SECOND_STAGE], __VA_ARGS__); break; \
	default: each(&formats[ARM_STAGE2], __VA_ARGS__);                         \
	}

#define INLINED static inline __attribute__((always_inline))

INLINED void translate_as(const struct format *format, const struct space *space, const u64 *iovas, size_t count,
			  u64 *pas)
{
	for (size_t i = 0; i < count; i++) {
		u64 iova = iovas[i], pa = NOTHING;
		const u64 *table = at(space, space->root_pa);

		for (int level = LEVELS - 1;; level--) {
			u64 word = table[index_of(iova, level)];
			if (!(word & format->present))
				break;
			if (is_leaf(format, word, level)) {
				pa = (word & ADDRESS) | (iova & (((u64)1 << lo(level)) - 1));
				break;
			}
			table = at(space, word & ADDRESS);
		}
		pas[i] = pa;
	}
}

/* Where each IOVA leads; all ones where nothing is mapped. */
void translate(const struct space *space, const u64 *iovas, size_t count, u64 *pas)
{
	FOR_EACH_FORMAT(space, translate_as, space, iovas, count, pas)
}

/* The owner map: a bit a page, 1 = the guest's; and where each owner's pages lie, or that they are not mapped. */
struct owners {
	const u64 *bits;
	u64 host_pa, guest_pa;
	u64 guest_mapped;
};

/* The word that a page's entry has to hold, but for A and D. */
INLINED u64 wanted(const struct owners *owners, const struct format *format, u64 iova, int guests)
{
	if (guests && !owners->guest_mapped)
		return 0;
	return (iova + (guests ? owners->guest_pa : owners->host_pa)) | format->leaf[0];
}

/* How many entries of a table of pages do not hold what the pages' owners demand. */
INLINED void audit_pages(const struct format *format, const struct owners *owners, const u64 *words, u64 iova,
			 u64 *wrong)
{
	for (int i = 0; i < ENTRIES; i += 64, words += 64, iova += 64 << PAGE_LG2) {
		u64 bits = owners->bits[iova >> (PAGE_LG2 + 6)], want = wanted(owners, format, iova, 0), found = 0;

		if (bits)
			for (int page = 0; page < 64; page++) {
				want = wanted(owners, format, iova + ((u64)page << PAGE_LG2), bits >> page & 1);
				found += (words[page] & ~format->hardware) != want;
			}
		else
			for (int page = 0; page < 64; page++)
				found += (words[page] & ~format->hardware) != want + ((u64)page << PAGE_LG2);
		*wrong += found;
	}
}

/* The same of a larger leaf, or of a hole: it is right if all of its pages have one owner. */
static u64 audit_block(const struct format *format, const struct owners *owners, u64 word, u64 iova, int level)
{
	size_t first = iova >> (PAGE_LG2 + 6), count = (size_t)1 << (STRIDE * level - 6);
	u64 any = 0, all = NOTHING;

	for (size_t i = first; i < first + count; i++) {
		any |= owners->bits[i];
		all &= owners->bits[i];
	}
	if (!(word & format->present))
		return all != NOTHING || owners->guest_mapped;
	if (any && all != NOTHING)
		return 1;
	u64 want = wanted(owners, format, iova, any != 0);
	return !want || (word & ~format->hardware) != (want ^ format->leaf[0] ^ format->leaf[level]);
}

static u64 audit_table(const struct space *space, const struct owners *owners, u64 table, u64 iova, u64 end, int level)
{
	const struct format *format = format_of(space);
	const u64 *words = at(space, table);
	u64 wrong = 0;

	if (!level) {
		FOR_EACH_FORMAT(space, audit_pages, owners, words, iova, &wrong)
		return wrong;
	}
	for (int i = 0; i < ENTRIES && iova < end; i++, iova += (u64)1 << lo(level)) {
		u64 word = words[i];
		if ((word & format->present) && !is_leaf(format, word, level))
			wrong += audit_table(space, owners, word & ADDRESS, iova, end, level - 1);
		else
			wrong += audit_block(format, owners, word, iova, level);
	}
	return wrong;
}

/* How many entries of [0, end), whole gigabytes, do not map what the owner map demands. */
u64 audit(const struct space *space, const struct owners *owners, u64 end)
{
	return audit_table(space, owners, space->root_pa, 0, end, LEVELS - 1);
}

/* The leaf of the level above that 512 entries make; 0 if they make none. A and D of any are its own. */
static inline u64 whole(const struct format *format, const u64 *words, int level)
{
	u64 first = words[0], differ = 0, any = 0, step = (u64)1 << lo(level);

	if (!(first & format->present) || !is_leaf(format, first, level) || (first & ADDRESS & (step * ENTRIES - 1)))
		return 0;
	for (int i = 0; i < ENTRIES; i++) {
		differ |= words[i] ^ (first + i * step);
		any |= words[i];
	}
	if (differ & ~format->hardware)
		return 0;
	return (first | (any & format->hardware)) ^ format->leaf[level] ^ format->leaf[level + 1];
}

/* Tables whose entries have become one leaf each, and those that were freed. */
struct merged {
	struct change *stores;
	u64 *freed;
};

/* Merge below one entry of level 2; what was noted for its 2M entries is dropped if it becomes one leaf itself. */
static void merge_gigabyte(struct space *space, u64 *entry, struct merged *merged)
{
	const struct format *format = format_of(space);
	u64 pa = *entry & ADDRESS, *words = at(space, pa), after[ENTRIES];
	struct change *stores = merged->stores;
	u64 leaf;

	for (int i = 0; i < ENTRIES; i++) {
		u64 word = words[i];
		after[i] = word;
		if (!(word & format->present) || is_leaf(format, word, 1))
			continue;
		leaf = whole(format, at(space, word & ADDRESS), 0);
		if (!leaf)
			continue;
		after[i] = leaf;
		*stores++ = (struct change){ words + i, word, leaf };
		*merged->freed++ = word & ADDRESS;
	}
	leaf = whole(format, after, 1);
	if (leaf) {
		stores = merged->stores;
		*stores++ = (struct change){ entry, *entry, leaf };
		*merged->freed++ = pa;
	}
	merged->stores = stores;
}

/*
 * Merge all that can be merged in [0, end): one round of stores. Freed tables are noted in work->freed, their number is
 * returned in *freed; they stay as they are, as a kernel's do until they are allocated again. Returns the stores; the
 * sum is larger than there may be if somebody else stored.
 */
size_t merge(struct space *space, u64 end, struct work *work, size_t *freed)
{
	const struct format *format = format_of(space);
	struct merged merged = { work->places, work->freed };
	size_t stores;

	for (u64 iova = 0; iova < end; iova += (u64)1 << lo(2)) {
		u64 word = at(space, space->root_pa)[index_of(iova, 3)];
		if (!(word & format->present))
			continue;
		u64 *entry = at(space, word & ADDRESS) + index_of(iova, 2);
		if ((*entry & format->present) && !is_leaf(format, *entry, 2))
			merge_gigabyte(space, entry, &merged);
	}
	stores = merged.stores - work->places;
	*freed = merged.freed - work->freed;
	return stores + (store_new(work->places, stores) ? stores : 0);
}

/* What memory takes: tables' words written as tables are, one ramp after the other. */
void ramp(u64 *words, size_t count, u64 first, u64 step)
{
	for (size_t i = 0; i < count; i++)
		words[i] = first + i * step;
}
