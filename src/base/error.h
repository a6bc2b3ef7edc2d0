// Errors that cross a room's border. Captured bytes never make one of these: parsers return enums.
#pragma once

#include <expected>
#include <string>
#include <utility>

namespace olly {

enum class ErrorCode {
  usage,        // wrong command line (exit 2)
  config,       // wrong configuration; message begins with file:line:column (exit 2)
  privilege,    // a capability or permission is missing; the message names it
  unsupported,  // this kernel, file or build cannot do it
  io,           // a system call failed; the message holds strerror
  limit,        // a table, buffer or queue is full
  internal,     // a promise between two rooms was broken
};

struct Error {
  ErrorCode code = ErrorCode::internal;
  std::string message;  // what happened, without a trailing full stop
  std::string hint;     // what the user can do about it; may be empty
};

template <class T>
using Result = std::expected<T, Error>;

inline std::unexpected<Error> fail(ErrorCode code, std::string message, std::string hint = {}) {
  return std::unexpected(Error{code, std::move(message), std::move(hint)});
}

}  // namespace olly
