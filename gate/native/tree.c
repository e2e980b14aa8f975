/* One snapshot of an LMDB file (data format 1, 64-bit little-endian), read where it is mapped.
 *
 * A page has its number (8 bytes), padding (2), flags (2), and the bounds of its free space (2 and 2); then come the offsets of
 * its nodes in the order of their keys. A node has 8 bytes of head, its key, and in a leaf its value. In a branch the head
 * names the page of all keys from the node's own on; the first node covers the smallest keys, whatever its key.
 *
 * Any byte of the file may be wrong. So a page number is checked against the snapshot's last page and the file's length, each
 * offset and length against the page, the depth against a bound, and the page must contain its own number. Damage within
 * these bounds leads to a wrong page or key, as in LMDB; the file's checksum detects it.
 */
#include "core.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC 0xBEEFC0DEu
#define DATA_FORMAT 1u
#define MIN_PAGE_BYTES 1024u
#define MAX_PAGE_BYTES 32768u /* LMDB's own bound; so an offset fits in 16 bits */
#define NO_PAGE UINT64_MAX
#define MAX_DEPTH 32 /* LMDB's own bound of a cursor's stack */
#define PAGE_HEAD 16u
#define NODE_HEAD 8u
#define LEAST_MAPPED (UINT64_C(1) << 26)
#define LINE_BYTES 64
#define HEAD_LINES 5         /* of a page: its head and the offsets of some 150 nodes */
#define KEY_LIKELY_BYTES 26u /* of a node, head included: the end of the key may be on the next line */
#define NEAR_LEVELS 1        /* pages of the tree that are always in a cache of the processor: the root */
#define NEAR_NODES 3         /* nodes that are likely on lines that were fetched for their neighbour */

enum { IS_BRANCH = 0x01, IS_LEAF = 0x02, IS_OVERFLOW = 0x04, IS_META = 0x08, ALL_KINDS = 0x6f };
enum { VALUE_IS_ELSEWHERE = 0x01 }; /* of a node: its value is on pages of its own */

/* Places in a meta page, its head included. */
enum { AT_MAGIC = 16, AT_FORMAT = 20, AT_PAGE_BYTES = 40, AT_MAIN_FLAGS = 92, AT_MAIN_ROOT = 128, AT_LAST_PAGE = 136, AT_ID = 144 };

static inline uint16_t u16(const uint8_t *p) {
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline uint32_t u32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* Other processes write to the mapped file, so a word that they may change is loaded once, and in one piece. */
static inline uint64_t shared64(const uint8_t *p) {
    return __atomic_load_n((const uint64_t *)(const void *)p, __ATOMIC_ACQUIRE);
}

static int damaged(gate_tree *tree, const char *problem) {
    tree->problem = problem;
    return GATE_DAMAGED;
}

/* Map what there is of the file, and room for it to double; pages behind its end are not touched. 0 or an errno value. */
static int map_again(gate_tree *tree) {
    struct stat status;
    if (fstat(tree->descriptor, &status) != 0)
        return errno;
    tree->device = (uint64_t)status.st_dev;
    tree->inode = (uint64_t)status.st_ino;
    uint64_t bytes = (uint64_t)status.st_size;
    if (bytes < 2 * MIN_PAGE_BYTES) {
        tree->file_bytes = bytes;
        return EINVAL;
    }
    if (tree->map == NULL || bytes > tree->mapped_bytes) {
        uint64_t wanted = bytes * 2 > LEAST_MAPPED ? bytes * 2 : LEAST_MAPPED;
        void *map = mmap(NULL, wanted, PROT_READ, MAP_SHARED, tree->descriptor, 0);
        if (map == MAP_FAILED)
            return errno;
        madvise(map, wanted, MADV_RANDOM); /* a check reads scattered pages: disable read-ahead */
        if (tree->map != NULL)
            munmap((void *)tree->map, tree->mapped_bytes);
        tree->map = map;
        tree->mapped_bytes = wanted;
    }
    tree->file_bytes = bytes; /* last: everything below it is mapped */
    return 0;
}

static int is_readable(gate_tree *tree) {
    uint32_t page_bytes = tree->page_bytes = u32(tree->map + AT_PAGE_BYTES);
    return u32(tree->map + AT_MAGIC) == MAGIC && u32(tree->map + AT_FORMAT) == DATA_FORMAT &&
           (page_bytes & (page_bytes - 1)) == 0 && page_bytes >= MIN_PAGE_BYTES && page_bytes <= MAX_PAGE_BYTES &&
           tree->file_bytes >= 2 * page_bytes && u32(tree->map + page_bytes + AT_PAGE_BYTES) == page_bytes;
}

int gate_tree_open(gate_tree *tree, const char *path) {
    memset(tree, 0, sizeof *tree);
    tree->problem = "";
    tree->descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (tree->descriptor < 0)
        return errno;
    int fault = map_again(tree);
    if (tree->map == NULL) {
        close(tree->descriptor);
        return fault == EINVAL ? -1 : fault;
    }
    if (is_readable(tree))
        return 0;
    gate_tree_close(tree);
    return -1;
}

/* A tree that was never opened (all zeros), or was closed, has no map; so the descriptor is closed once, and never descriptor 0. */
void gate_tree_close(gate_tree *tree) {
    if (tree->map == NULL)
        return;
    munmap((void *)tree->map, tree->mapped_bytes);
    close(tree->descriptor);
    tree->map = NULL;
    tree->transaction = 0;
}

/* Commit N writes the meta page N mod 2, whole, before transactions may begin that read N. So the page of commit T is written
 * again by T+2 at the earliest, which begins when T+1 may be read. T's page was therefore read as T wrote it if after that T+1
 * does not show in the other page; or if after that a transaction still begins at T, though T+1 is written already. */
static int read_meta(gate_tree *tree, uint64_t transaction) {
    gate_meta *meta = &tree->meta;
    const uint8_t *page = tree->map + (transaction & 1) * tree->page_bytes;
    const uint8_t *other = tree->map + (~transaction & 1) * tree->page_bytes;
    if (meta->transaction == transaction && transaction != 0)
        return 1; /* read before this transaction began, and after an earlier one of the same commit */
    meta->is_plain = (u16(page + 10) & IS_META) != 0 && u16(page + AT_MAIN_FLAGS) == 0;
    meta->root = shared64(page + AT_MAIN_ROOT);
    meta->last_page = shared64(page + AT_LAST_PAGE);
    meta->transaction = shared64(page + AT_ID);
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    if (meta->transaction != transaction)
        meta->transaction = 0;
    return meta->transaction != 0 && shared64(other + AT_ID) <= transaction;
}

int gate_tree_at(gate_tree *tree, uint64_t transaction) {
    tree->transaction = 0;
    if (tree->map == NULL)
        return damaged(tree, "it is closed");
    if (!read_meta(tree, transaction))
        return GATE_ABSENT;
    const gate_meta *meta = &tree->meta;
    uint64_t last_page = meta->last_page;
    if (!meta->is_plain)
        return damaged(tree, "its meta page is not one of an LMDB file with plain keys");
    if (last_page >= tree->file_bytes / tree->page_bytes && map_again(tree) != 0)
        return GATE_ABSENT; /* no address space for it in this process: Python answers */
    /* Pages at the end that a transaction took and freed are not written, so the file may be shorter than its page count. */
    uint64_t pages = tree->file_bytes / tree->page_bytes;
    if (pages < 2)
        return damaged(tree, "it is cut short");
    if (last_page >= pages)
        last_page = pages - 1;
    if (meta->root != NO_PAGE && meta->root > last_page)
        return damaged(tree, "the root of its tree is not a page of it");
    tree->root = meta->root;
    tree->last_page = last_page;
    tree->transaction = transaction;
    return GATE_FOUND;
}

/* A transaction begun before this reads commit T or a later one, and a later one's meta page was written before that.
 *
 * Without a transaction: commit T+1 writes only to pages that T does not have, and T+2, which may write to those that T+1 gave
 * up, begins when T+1 shows. So what was read of T before T is still the newest was not written to meanwhile. */
int gate_tree_is_newest(const gate_tree *tree) {
    uint64_t transaction = tree->transaction;
    if (transaction == 0)
        return 0;
    __atomic_thread_fence(__ATOMIC_ACQUIRE); /* keeps earlier reads before this point */
    return shared64(tree->map + (transaction & 1) * tree->page_bytes + AT_ID) == transaction &&
           shared64(tree->map + (~transaction & 1) * tree->page_bytes + AT_ID) < transaction;
}

static inline uint64_t ordered64(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return __builtin_bswap64(v);
}

/* As memcmp, the shorter one first. A look-up makes some thirty comparisons, and a call for each would take half of its time. */
static inline int compare(const uint8_t *a, size_t a_size, const uint8_t *b, size_t b_size) {
    size_t both = a_size < b_size ? a_size : b_size;
    if (both < 8) {
        int order = memcmp(a, b, both);
        return order != 0 ? order : (a_size > b_size) - (a_size < b_size);
    }
    for (size_t at = 0;; at += 8) {
        if (at > both - 8)
            at = both - 8; /* the last eight bytes; some of them were compared already */
        uint64_t one = ordered64(a + at), other = ordered64(b + at);
        if (one != other)
            return one < other ? -1 : 1;
        if (at == both - 8)
            return (a_size > b_size) - (a_size < b_size);
    }
}

/* The node at an index; NULL unless its whole key is inside the page. */
static inline const uint8_t *node_at(const uint8_t *page, uint32_t page_bytes, unsigned index, size_t *key_size) {
    uint32_t offset = u16(page + PAGE_HEAD + 2 * index);
    if (offset + NODE_HEAD > page_bytes)
        return NULL;
    *key_size = u16(page + offset + 6);
    return offset + NODE_HEAD + *key_size <= page_bytes ? page + offset : NULL;
}

/* A long value, such as settings with many exempt senders: `at` has the number of its first page, which counts its pages. */
static int value_elsewhere(gate_tree *tree, const uint8_t *at, uint64_t room, uint64_t size, const uint8_t **value) {
    uint64_t number, own_number;
    if (room < sizeof number)
        return damaged(tree, "a value leads out of its page");
    memcpy(&number, at, sizeof number);
    if (number > tree->last_page)
        return damaged(tree, "a page number leads behind its last page");
    const uint8_t *page = tree->map + number * tree->page_bytes;
    memcpy(&own_number, page, sizeof own_number);
    uint64_t pages = u32(page + 12);
    if (own_number != number || (u16(page + 10) & ALL_KINDS) != IS_OVERFLOW || pages > tree->last_page - number + 1 ||
        size + PAGE_HEAD > pages * tree->page_bytes)
        return damaged(tree, "a long value is not on the pages that it should be on");
    *value = page + PAGE_HEAD;
    return GATE_FOUND;
}

static int gives_up(gate_tree *tree, gate_lookup *one, const char *problem) {
    one->found = (int8_t)damaged(tree, problem);
    return 0;
}

/* The steps of a look-up: each returns whether it goes on, and else `found` is set. A search begins at the root, */
static inline int begin(gate_tree *tree, gate_lookup *one) {
    one->number = tree->root;
    one->page = NULL;
    one->depth = 0;
    one->found = GATE_ABSENT;
    if (tree->transaction == 0)
        return gives_up(tree, one, "no transaction of it is at hand");
    return tree->root != NO_PAGE;
}

/* looks at the head of each page on its way, */
static inline int enter(gate_tree *tree, gate_lookup *one) {
    if (one->number > tree->last_page)
        return gives_up(tree, one, "a page number leads behind its last page");
    if (one->depth++ == MAX_DEPTH)
        return gives_up(tree, one, "its tree is too deep");
    const uint8_t *page = one->page = tree->map + one->number * tree->page_bytes;
    uint64_t own_number;
    memcpy(&own_number, page, sizeof own_number);
    unsigned kind = u16(page + 10) & ALL_KINDS, lower = u16(page + 12);
    one->is_branch = kind == IS_BRANCH;
    if (own_number != one->number || !(one->is_branch || kind == IS_LEAF))
        return gives_up(tree, one, "a page of its tree is not what it should be");
    if (lower < PAGE_HEAD || lower > tree->page_bytes || (one->is_branch && lower < PAGE_HEAD + 2))
        return gives_up(tree, one, "a page counts more nodes than it has room for");
    one->low = (uint16_t)one->is_branch; /* of a branch, the first node's key is not looked at */
    one->high = (uint16_t)((lower - PAGE_HEAD) >> 1);
    one->node = NULL;
    return 1;
}

static inline unsigned middle_of(const gate_lookup *one) { return ((unsigned)one->low + one->high) >> 1; }

/* halves the range of nodes between `low` and `high` until it is empty, */
static inline int halve(gate_tree *tree, gate_lookup *one) {
    unsigned middle = middle_of(one);
    size_t size;
    const uint8_t *node = node_at(one->page, tree->page_bytes, middle, &size);
    if (node == NULL)
        return gives_up(tree, one, "a key leads out of its page");
    int order = compare(node + NODE_HEAD, size, one->key, one->key_size);
    if (order == 0)
        one->node = node, one->low = one->high = (uint16_t)(middle + 1);
    else if (order < 0)
        one->low = (uint16_t)(middle + 1);
    else
        one->high = (uint16_t)middle;
    return 1;
}

/* and then goes on to the page below, or ends in a leaf. */
static inline int leave(gate_tree *tree, gate_lookup *one) {
    const uint8_t *page = one->page, *node = one->node;
    size_t size;
    one->page = NULL;
    if (one->is_branch) {
        node = node_at(page, tree->page_bytes, one->low - 1u, &size);
        if (node == NULL)
            return gives_up(tree, one, "a node leads out of its page");
        one->number = u16(node) | (uint64_t)u16(node + 2) << 16 | (uint64_t)u16(node + 4) << 32;
        return 1;
    }
    if (node == NULL)
        return 0;
    one->value = node + NODE_HEAD + one->key_size;
    one->value_size = u16(node) | (uint32_t)u16(node + 2) << 16;
    size_t room = tree->page_bytes - (size_t)(one->value - page);
    if (u16(node + 4) == VALUE_IS_ELSEWHERE)
        one->found = (int8_t)value_elsewhere(tree, one->value, room, one->value_size, &one->value);
    else if (u16(node + 4) != 0 || one->value_size > room)
        return gives_up(tree, one, "a value leads out of its page");
    else
        one->found = GATE_FOUND;
    return 0;
}

int gate_tree_get(gate_tree *tree, const uint8_t *key, size_t key_size, const uint8_t **value, size_t *value_size) {
    gate_lookup one = {.key = key, .key_size = key_size};
    int goes_on = begin(tree, &one);
    while (goes_on && (goes_on = enter(tree, &one))) {
        while (goes_on && one.low < one.high)
            goes_on = halve(tree, &one);
        goes_on = goes_on && leave(tree, &one);
    }
    if (one.found == GATE_FOUND)
        *value = one.value, *value_size = one.value_size;
    return one.found;
}

/* A leaf of a large file is in no cache of the processor, and neither are the nodes that a search in it looks at: eight or so,
 * each of which waits for the memory. So look-ups take turns: each asks the memory for the node that it looks at in its next
 * turn. That takes 0.6 of the time, over 1 M entries as over 100 M. */

static inline void fetch_page(const gate_tree *tree, const gate_lookup *one) {
    if (one->number > tree->last_page)
        return;
    const uint8_t *page = tree->map + one->number * tree->page_bytes;
    for (int line = 0; line < HEAD_LINES; line++)
        __builtin_prefetch(page + line * LINE_BYTES);
}

static inline void fetch_node(const gate_lookup *one) {
    const uint8_t *node = one->page + u16(one->page + PAGE_HEAD + 2 * middle_of(one));
    __builtin_prefetch(node);
    __builtin_prefetch(node + KEY_LIKELY_BYTES);
}

/* One turn; whether the look-up goes on. */
static inline int takes_turn(gate_tree *tree, gate_lookup *one) {
    if (one->page == NULL) {
        if (!enter(tree, one))
            return 0;
        if (one->depth > NEAR_LEVELS && one->low < one->high) {
            fetch_node(one);
            return 1;
        }
    }
    while (one->low < one->high) {
        if (!halve(tree, one))
            return 0;
        if (one->depth > NEAR_LEVELS && one->low + NEAR_NODES < one->high) {
            fetch_node(one);
            return 1;
        }
    }
    if (!leave(tree, one))
        return 0;
    fetch_page(tree, one);
    return 1;
}

void gate_tree_get_many(gate_tree *tree, gate_lookup *lookups, unsigned count) {
    uint8_t going[GATE_MAX_LOOKUPS];
    unsigned left = 0;
    for (unsigned i = 0; i < count; i++)
        if (begin(tree, &lookups[i]))
            going[left++] = (uint8_t)i;
    while (left > 0) {
        unsigned still = 0;
        for (unsigned i = 0; i < left; i++)
            if (takes_turn(tree, &lookups[going[i]]))
                going[still++] = going[i];
        left = still;
    }
}
