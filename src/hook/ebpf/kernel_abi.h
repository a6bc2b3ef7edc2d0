/*
 * What the kernel programs (bpf/) and their loader (src/hook/ebpf/) say to each other, besides the
 * records of event/abi.h. Both sides are built from one tree, so this may change freely.
 * C11 and C++23.
 */
#ifndef OLLY_HOOK_EBPF_KERNEL_ABI_H
#define OLLY_HOOK_EBPF_KERNEL_ABI_H

#include "event/abi.h"

/* Copied into one record at most, and of a call of a connection whose protocol is not known. */
#define OLLY_MAX_COPY 16384u
/* Records of one call at most, and so what can be copied of it. */
#define OLLY_MAX_PIECES 64u
#define OLLY_MAX_CALL (OLLY_MAX_PIECES * OLLY_MAX_COPY)
/* A new connection whose protocol nobody has found by this position is moving something large: from
 * there on only the beginning of each call is copied, so that it cannot fill the lane. */
#define OLLY_UNKNOWN_FULL 262144u
#define OLLY_UNKNOWN_COPY 4096u
#define OLLY_POLICY_SLOTS 65536u /* a power of two */
#define OLLY_PROCESS_SLOTS 32768u
#define OLLY_VERDICT_SLOTS 8192u /* a power of two */

/* Constants of one load: map ".rodata.setup", written before the object is loaded. */
struct olly_setup {
  olly_u32 exit_has_group_dead; /* sched_process_exit has the argument group_dead (6.16 on) */
  olly_u32 seed;                /* of the hashes that name UNIX sockets */
  olly_u32 lanes;               /* CPUs that have one; others share them */
  olly_u32 lane_mask;           /* bytes of a lane's data - 1 */
  olly_u32 preempt_kfuncs;      /* bpf_preempt_disable and _enable are there (6.11 on) */
  olly_u32 tls;                 /* with the programs for TLS, and what belongs to them */
};

/*
 * IO records go into lanes: map "lanes", one per CPU, mapped by the agent, olly_lane and then the
 * data. A lane has one writer at a time, who never waits and takes no lock: who finds it `busy` (it
 * interrupted the writer, or shares the lane) takes the ring buffer instead. `head` and `tail` grow
 * for ever; a record stands at (head & lane_mask), whole: behind the data there is room for what
 * reaches over its end. A record is `size` bytes, a multiple of 8.
 */
struct olly_lane {
  olly_u64 tail; /* the reader's */
  olly_u64 pad0[7];
  olly_u64 head; /* the writer's */
  olly_u32 busy;
  olly_u32 pad1;
  olly_u64 pad2[6];
  olly_u64 iov[16]; /* eight entries of the call's iovec array, while it is being written */
};

/* Two parts of OLLY_MAX_COPY bytes, which is what the verifier believes, and a header. */
#define OLLY_LANE_SLACK 36864u

/* Read by every program, written by the agent through a mapping: map ".data.control". */
struct olly_control {
  olly_u32 reader_sleeps;   /* 1: the next record must wake the reader; the waker sets it to 0 */
  olly_u32 generation;      /* cached verdicts of an older generation are asked for again */
  olly_u32 observe_unknown; /* processes without an entry in `processes` are observed */
  olly_u32 agent_tgid;      /* initial pid namespace; set by the program olly_self */
  olly_u32 max_copy;        /* capture.max_bytes_per_call, at most OLLY_MAX_CALL */
  olly_u32 unknown_copy;    /* see OLLY_UNKNOWN_FULL; at most max_copy */
  olly_u32 unknown_first;   /* of unknown connections before that; at most max_copy */
  olly_u32 settled;         /* UNIX sockets seen for the first time from now on are new */
  olly_u32 user_regs; /* from a thread's stack to its registers; 0 = not known; by olly_self */
  olly_u32 off;       /* 1: nothing is captured for now; processes and closes still count */
  olly_u32 tls;       /* OLLY_TLS_ARMED*: socket events may be within calls of TLS */
  olly_u32 young;     /* UNIX sockets whose inode numbers lie behind it are new; 0 = not known */
  olly_u32 reserved[4];
};

#define OLLY_TLS_ARMED 1u    /* libraries are probed */
#define OLLY_TLS_ARMED_GO 2u /* programs with Go's crypto/tls are */

/* Why something was lost. One array per CPU: map "counters", mapped by the agent. */
enum olly_drop {
  OLLY_DROP_RING_FULL = 0,  /* a record found no room; of IO records the bytes are a gap */
  OLLY_DROP_NO_STATE = 1,   /* no memory for a socket's or thread's state: its calls went unseen */
  OLLY_DROP_NO_PROCESS = 2, /* table of processes full: a child is treated as unknown */
  OLLY_DROP_TLS_NO_SOCKET = 3, /* plaintext of a TLS connection whose socket is not known */
  OLLY_DROPS = 4,
};

struct olly_cpu {
  olly_u64 drops[OLLY_DROPS];
  olly_u64 lost_bytes; /* of IO records that found no room */
  olly_u64 pad[11];    /* two cache lines, so that no two CPUs share one */
};

/* The verdict on a process: map "processes", key tgid. A fork copies the parent's. */
struct olly_process {
  olly_u32 observe;
  olly_u32 goid_offset; /* below 4096; 0 = not Go, or not known */
};

/*
 * Functions of TLS libraries, all of which take the connection's object first. The cookie of a
 * uprobe is one of these; at a result site with OLLY_TLS_RESULT, the number of the register that
 * holds the result (<< 12), and, with OLLY_TLS_BRANCH, the machine's code (<< 16) of the condition
 * under which the function does not end behind the site, but goes on.
 */
enum olly_tls_kind {
  OLLY_TLS_READ = 1,      /* (object, buffer, length): returns the length, or none */
  OLLY_TLS_WRITE = 2,     /* the same */
  OLLY_TLS_READ_EX = 3,   /* (object, buffer, length, size_t *count): returns 1, or none */
  OLLY_TLS_WRITE_EX = 4,  /* the same */
  OLLY_TLS_CLEAR = 5,     /* the object is new, or as new */
  OLLY_TLS_FREE = 6,      /* the object may be gone behind this */
  OLLY_TLS_HANDSHAKE = 8, /* (object) */
  OLLY_TLS_FIRST = 10,    /* (object) that may be new: a handshake begins, nothing else was told */
  OLLY_TLS_SENDFILE = 7,  /* (object, file, offset, length, flags): returns the length, or none */
  OLLY_TLS_BEGIN = 9,     /* the object's first handshake is about to begin */
  OLLY_TLS_GIVE_UP = 11,  /* it will move bytes that nobody sees: the object is not read any more */
  /* Go's crypto/tls, see src/hook/ebpf/tls/go_sites.h. The cookie's second 16 bits: where in the
   * frame of (*Conn).Read the connection is. */
  OLLY_TLS_GO_READ = 32,
  OLLY_TLS_GO_WRITE = 33,
  OLLY_TLS_GO_HANDSHAKE = 34,
};
#define OLLY_TLS_GO_HOME 16 /* bits */
#define OLLY_TLS_RESULT 0x100u
#define OLLY_TLS_BRANCH 0x200u
#define OLLY_TLS_NOTHING 4 /* in place of the register: nothing was moved */
/*
 * Elsewhere the cookie says where the object has the client's random: at RANDOM * 8 bytes, or, with
 * BEHIND, at BEHIND * 8 behind what the pointer there points to; and at SERVER * 4 bytes whether it
 * is the server's end. 0 = not known. Everywhere it says how much stack the function has taken so
 * far, in units of 8 bytes.
 */
#define OLLY_TLS_RANDOM_SHIFT 20
#define OLLY_TLS_BEHIND_SHIFT 32
#define OLLY_TLS_SERVER_SHIFT 44
#define OLLY_TLS_FIELD_MASK 0xfffu
#define OLLY_TLS_DEPTH_SHIFT 56
#define OLLY_TLS_RESULT_DEPTH_SHIFT 20
/*
 * The site has no other one beside it: the cookie says where the object (<< 20), the buffer (<< 28)
 * and the pointer to the count (<< 36) are, and what (<< 52) must be where (<< 44): a register's
 * number, or from OLLY_TLS_WORD on a word of the stack, or OLLY_TLS_NOWHERE.
 */
#define OLLY_TLS_ALONE 0x400u
#define OLLY_TLS_WORD 0x80u
#define OLLY_TLS_NOWHERE 0xffu
#define OLLY_TLS_HANDSHAKES 4096u /* of goroutines that have moved no record of them yet */
#define OLLY_TLS_OBJECTS 16384u   /* connections known at a time */
#define OLLY_TLS_HELLOS 8192u     /* ClientHellos of the latest connections */

OLLY_STATIC_ASSERT(sizeof(struct olly_lane) == 256, "lane");
OLLY_STATIC_ASSERT(sizeof(struct olly_cpu) == 128, "per-CPU counters");
OLLY_STATIC_ASSERT(sizeof(struct olly_control) == 64, "control page");

#endif
