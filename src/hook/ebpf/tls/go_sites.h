// Where Go's crypto/tls is probed. Its functions have many returns, which the kernel would
// single-step, and calls that block: a goroutine may go on on another thread and another stack.
// So there are no two sites to a call, but one each, at which everything is known at once:
//
//   Read       the call of runtime.memmove that hands plaintext to the caller. What is copied, and
//              how much, is in registers; it comes from the record that was decrypted, which
//              belongs to the connection. The connection is at its place in the frame.
//   Write      the calls of writeRecordLocked: connection, type, bytes and length in registers. The
//              caller's bytes are certain to be alive then, which they are not behind the call.
//   handshake  the jump to morestack that client- and serverHandshake begin with: the connection is
//              new, and the next records that this goroutine moves tell its socket.
//
// Every Go from 1.18 to the newest that was looked at has these; each program's code is checked for
// them. x86-64, ABIInternal.
#pragma once

#include "hook/ebpf/tls/sites.h"

namespace olly::tls {

// `library` is empty where the file is no Go program, or one without crypto/tls.
LibrarySites find_go_sites(const ElfFile& file);

}  // namespace olly::tls
