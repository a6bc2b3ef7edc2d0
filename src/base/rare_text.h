// A text that almost no object has: eight bytes where there is none.
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace olly {

class RareText {
 public:
  RareText() = default;
  // A string literal is one of these, too.
  RareText& operator=(std::string_view text) {
    text_ = text.empty() ? nullptr : std::make_unique<const std::string>(text);
    return *this;
  }
  bool empty() const noexcept { return text_ == nullptr; }
  std::string_view text() const noexcept {
    return text_ ? std::string_view(*text_) : std::string_view();
  }

 private:
  std::unique_ptr<const std::string> text_;
};

}  // namespace olly
