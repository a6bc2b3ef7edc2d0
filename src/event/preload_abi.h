/*
 * What libolly.so (preload/) and the provider `socket` (src/hook/socket/) say to each other,
 * besides the records of event/abi.h. C11 and C++23.
 *
 * The program makes the region: a memfd, sealed against shrinking and growing, mapped shared. It
 * sends the descriptor with one olly_preload_hello over a SOCK_SEQPACKET Unix socket and closes
 * both: it keeps no descriptor, and it waits for no answer, so an agent that is stopped, slow or
 * not yet accepting costs it nothing. Who the program is the agent asks the kernel (SO_PEERCRED).
 *
 * Layout of a region, offsets from its begin:
 *   0                              olly_preload_header, one page; at 1024 in it olly_inject_rule[]
 *   4096                           olly_policy[policies] (written by the agent; slot = sock & mask)
 *   + policies * 32                olly_preload_slot[slots]
 *   + slots * 256                  ring of slot 0, ring_bytes; ring of slot 1; ...
 *
 * A slot is a thread's: one producer, the thread; one consumer, the agent. `head` and `tail` count
 * bytes for ever; the data is at head & (ring_bytes - 1). Records are 16-aligned, never wrap, and a
 * record of type OLLY_REC_PAD fills the rest before the ring's end. Only OPEN, IO, CLOSE,
 * CONNECT, TLS and INJECT records are taken from a region. A full ring loses the record and counts
 * it.
 *
 * To the agent everything in a region is hostile: the program may write anything anywhere at any
 * time. It copies before it looks, and believes nothing twice.
 */
#ifndef OLLY_EVENT_PRELOAD_ABI_H
#define OLLY_EVENT_PRELOAD_ABI_H

#include "event/abi.h"

#define OLLY_PRELOAD_MAGIC 0x594c4c4fu /* "OLLY" */
#define OLLY_PRELOAD_VERSION 1u

#define OLLY_PRELOAD_HEADER_BYTES 4096u
#define OLLY_PRELOAD_POLICIES 4096u
#define OLLY_PRELOAD_SLOTS 64u
#define OLLY_PRELOAD_MAX_SLOTS 1024u
#define OLLY_PRELOAD_RING_DEFAULT (512u * 1024u)
#define OLLY_PRELOAD_RING_SMALLEST (32u * 1024u)
#define OLLY_PRELOAD_RING_LARGEST (16u * 1024u * 1024u)
/* Payload of a record at most. Of a call a quarter of a ring can be copied, in several of them. */
#define OLLY_PRELOAD_MAX_COPY 16384u
#define OLLY_PRELOAD_ALIGN 16u

/* The agent writes its clock at least this often; older than `dead`, it is taken for gone. */
#define OLLY_PRELOAD_BEAT_NS 500000000ull
#define OLLY_PRELOAD_DEAD_NS 3000000000ull

enum olly_preload_drop {
  OLLY_PRELOAD_RING_FULL = 0, /* of IO records the bytes are a gap */
  OLLY_PRELOAD_NO_RING = 1,   /* more threads than slots */
  OLLY_PRELOAD_REENTERED = 2, /* a signal handler's call while its thread wrote a record */
  OLLY_PRELOAD_NO_STATE = 3,  /* more sockets at once than the library keeps */
  OLLY_PRELOAD_DROPS = 4,
};

/* Requests to a destination of the rules that got no header, and why. */
enum olly_inject_refusal {
  OLLY_REFUSED_OWNER = 0,  /* whose call it is cannot be known yet */
  OLLY_REFUSED_WHOLE = 1,  /* the socket, or a TLS library, might not take it whole */
  OLLY_REFUSED_RECORD = 2, /* the agent could not be told, or could not read all of its head */
  OLLY_REFUSALS = 3,
};

struct olly_preload_header {
  /* written once, by the program, before the region is sent */
  olly_u32 magic;
  olly_u32 version;
  olly_u32 slots;
  olly_u32 ring_bytes; /* a power of two */
  olly_u32 policies;   /* a power of two */
  olly_u32 reserved[11];
  /* written by the agent */
  olly_u64 beat_ns;       /* CLOCK_MONOTONIC; 0 = it has not taken the region yet */
  olly_u32 quiet;         /* 1: the process is not observed */
  olly_u32 detached;      /* 1: this agent has ended */
  olly_u32 max_copy;      /* bytes to copy of a call at most; 0 = not said yet */
  olly_u32 reader_sleeps; /* a futex: 1 = wake it; who wakes sets it to 0 */
  olly_u32 inject;        /* rules of header injection; 0 = nothing is injected */
  olly_u32 told; /* a futex: 1 = this agent has taken the region, and what stands here counts */
  olly_u32 reserved2[8];
  /* written by the program */
  olly_u32 used_slots; /* slots below it may have been used */
  olly_u32 reserved3[15];
  olly_u64 drops[OLLY_PRELOAD_DROPS];
  olly_u64 lost_bytes;
  olly_u64 refused[OLLY_REFUSALS]; /* by olly_inject_refusal */
};

/*
 * Into requests to whom a traceparent is put. Written by the agent before `inject` says how many
 * there are; one that fits is enough.
 */
#define OLLY_PRELOAD_RULES_AT 1024u
#define OLLY_PRELOAD_MAX_RULES 24u
#define OLLY_PRELOAD_RULE_NAME 104u

enum olly_inject_kind {
  OLLY_INJECT_NAME = 1,    /* `name`, with * and ?, is what the request's Host names */
  OLLY_INJECT_ADDRESS = 2, /* the first `bits` of the peer's address are those of `address` */
};

struct olly_inject_rule {
  olly_u8 kind;
  olly_u8 family; /* enum olly_family */
  olly_u8 bits;
  olly_u8 reserved;
  olly_u16 port; /* 0 = every one */
  olly_u16 reserved2;
  olly_u8 address[16];               /* network order */
  char name[OLLY_PRELOAD_RULE_NAME]; /* lower case, NUL-terminated */
};

struct olly_preload_slot {
  olly_u64 head; /* written by the thread */
  olly_u32 tid;  /* whose it is; 0 = nobody's yet. A dead thread's slot is taken over */
  olly_u32 reserved[29];
  olly_u64 tail; /* written by the agent */
  olly_u64 reserved2[15];
};

enum olly_preload_kind {
  OLLY_PRELOAD_EXEC = 0,  /* the first region of this program */
  OLLY_PRELOAD_FORK = 1,  /* of a child that runs the same program */
  OLLY_PRELOAD_AGAIN = 2, /* the agent before this one is gone */
};

/* The one message. With it comes one descriptor: the region. */
struct olly_preload_hello {
  olly_u32 magic;
  olly_u32 version;
  olly_u32 kind;      /* enum olly_preload_kind */
  olly_u32 netns;     /* inode of its network namespace, for a process that is gone by then */
  char comm[16];      /* NUL-terminated; for a process that is gone before /proc is read */
  char filename[128]; /* may be cut */
};

OLLY_STATIC_ASSERT(sizeof(struct olly_preload_header) == 256, "region header");
OLLY_STATIC_ASSERT(sizeof(struct olly_preload_slot) == 256, "slot");
OLLY_STATIC_ASSERT(sizeof(struct olly_inject_rule) == 128, "rule");
OLLY_STATIC_ASSERT(OLLY_PRELOAD_RULES_AT + OLLY_PRELOAD_MAX_RULES * 128 <=
                       OLLY_PRELOAD_HEADER_BYTES,
                   "rules fit into the header's page");
OLLY_STATIC_ASSERT(sizeof(struct olly_preload_hello) == 160, "hello");

#endif
