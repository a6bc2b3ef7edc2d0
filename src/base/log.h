// The agent's own log: one line per message on stderr. Thread safe. Never called per event.
#pragma once

#include <fmt/format.h>

#include <string_view>

namespace olly::log {

enum class Level { debug, info, warn, error };

void set_level(Level level) noexcept;
Level level() noexcept;
void write(Level level, std::string_view message);

template <class... Args>
void at(Level at_level, fmt::format_string<Args...> format, Args&&... args) {
  if (at_level < level()) return;
  write(at_level, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void debug(fmt::format_string<Args...> format, Args&&... args) {
  at(Level::debug, format, std::forward<Args>(args)...);
}
template <class... Args>
void info(fmt::format_string<Args...> format, Args&&... args) {
  at(Level::info, format, std::forward<Args>(args)...);
}
template <class... Args>
void warn(fmt::format_string<Args...> format, Args&&... args) {
  at(Level::warn, format, std::forward<Args>(args)...);
}
template <class... Args>
void error(fmt::format_string<Args...> format, Args&&... args) {
  at(Level::error, format, std::forward<Args>(args)...);
}

}  // namespace olly::log
