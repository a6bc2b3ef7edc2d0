// Typed attributes in one flat buffer, so that a span's attributes cost no allocation each.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace olly {

enum class AttributeType : std::uint8_t { string, int64, float64, boolean };

// Keys are static strings (traces/semconv.h). A string value is a range of the list's text.
struct Attribute {
  std::string_view key;
  AttributeType type = AttributeType::string;
  std::uint32_t text_offset = 0;
  std::uint32_t text_size = 0;
  union {
    std::int64_t int64 = 0;
    double float64;
    bool boolean;
  };
};

// Strings are stored as they come; encoders replace invalid UTF-8. Adding never invalidates what is
// there by offset, but views from string() last only until the next add.
class AttributeList {
 public:
  // Text that belongs to the span but is no attribute (its name, its tracestate).
  struct Text {
    std::uint32_t offset = 0;
    std::uint32_t size = 0;
  };

  void add(std::string_view key, std::string_view value) {
    const Text range = add_text(value);
    Attribute& a = next(key, AttributeType::string);
    a.text_offset = range.offset;
    a.text_size = range.size;
  }
  void add(std::string_view key, Text value) {  // of add_text()
    Attribute& a = next(key, AttributeType::string);
    a.text_offset = value.offset;
    a.text_size = value.size;
  }
  void add(std::string_view key, const char* value) { add(key, std::string_view(value)); }
  void add(std::string_view key, std::int64_t value) {
    next(key, AttributeType::int64).int64 = value;
  }
  void add(std::string_view key, double value) {
    next(key, AttributeType::float64).float64 = value;
  }
  void add(std::string_view key, bool value) { next(key, AttributeType::boolean).boolean = value; }

  Text add_text(std::string_view text) {
    const Text range{static_cast<std::uint32_t>(text_.size()),
                     static_cast<std::uint32_t>(text.size())};
    text_.append(text);
    return range;
  }

  std::string_view text(Text range) const noexcept {
    return {text_.data() + range.offset, range.size};
  }
  std::string_view string(const Attribute& a) const noexcept {
    return {text_.data() + a.text_offset, a.text_size};
  }
  const Attribute* find(std::string_view key) const noexcept;
  std::span<const Attribute> items() const noexcept { return items_; }
  std::string_view all_text() const noexcept { return text_; }
  std::size_t bytes() const noexcept {
    return items_.capacity() * sizeof(Attribute) + text_.capacity();
  }
  void clear() noexcept {  // keeps the memory
    items_.clear();
    text_.clear();
  }
  // Gives a string attribute that was added another value; adds it when it was not.
  void set(std::string_view key, std::string_view value);

 private:
  Attribute& next(std::string_view key, AttributeType type) {
    Attribute& a = items_.emplace_back();
    a.key = key;
    a.type = type;
    return a;
  }

  std::vector<Attribute> items_;
  std::string text_;
};

}  // namespace olly
