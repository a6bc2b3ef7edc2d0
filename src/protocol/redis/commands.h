// What Redis' commands are to Olly: where their keys stand, and which of them change what a
// connection says next. Source: COMMAND INFO, https://redis.io/docs/latest/commands.
#pragma once

#include <cstdint>
#include <string_view>

namespace olly::redis {

// Commands that the pairing of requests and replies has to know.
enum class Role : std::uint8_t {
  plain,
  ping,
  select,
  multi,
  exec,
  discard,
  subscribe,  // this one and the five that follow are answered once per channel
  psubscribe,
  ssubscribe,
  unsubscribe,
  punsubscribe,
  sunsubscribe,
  monitor,
  sync,
  client,
  reset,
  hello,
  quit,
  shutdown,
  streams,  // XREAD, XREADGROUP: the keys are the first half of what follows STREAMS
};

constexpr bool is_subscription(Role r) noexcept {
  return r >= Role::subscribe && r <= Role::sunsubscribe;
}

struct Command {
  std::string_view name;  // lower case
  // Arguments that are keys: the command's own name is 0; last counts from the end when negative;
  // first 0 = none.
  std::int8_t first = 0;
  std::int8_t last = 0;
  std::int8_t step = 0;
  std::int8_t numkeys = 0;  // this argument is the number of keys that follow it; 0 = none
  bool container = false;   // argument 1 is a subcommand
  bool blocking = false;    // its reply may take as long as the client likes
  Role role = Role::plain;
};

// In any case of letters. Null: not known. The table is static.
const Command* find_command(std::string_view word) noexcept;
// Whether the word is a subcommand of some container: such words are no secrets.
bool is_subcommand(std::string_view word) noexcept;

}  // namespace olly::redis
