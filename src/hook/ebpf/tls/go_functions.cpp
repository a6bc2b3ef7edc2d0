#include "hook/ebpf/tls/go_functions.h"

#include <algorithm>
#include <cstring>
#include <map>

namespace olly::tls {
namespace {

constexpr std::uint32_t kMagic118 = 0xfffffff0;  // Go 1.18 and 1.19
constexpr std::uint32_t kMagic120 = 0xfffffff1;  // 1.20 on
constexpr std::size_t kWindow = 64 * 1024;
constexpr std::uint64_t kMaxFunctions = 4'000'000;
constexpr std::uint64_t kMaxSize = 1ull << 30;

// The header: runtime.pcHeader.
constexpr std::size_t kHeader = 72;
constexpr std::size_t kCount = 8;
constexpr std::size_t kText = 24;  // no longer filled in from 1.26 on
constexpr std::size_t kNames = 32;
constexpr std::size_t kNamesEnd = 40;
constexpr std::size_t kFunctions = 64;
// runtime.moduledata.text, in .go.module (1.26 on).
constexpr std::uint64_t kModuleText = 176;

template <class T>
T number_at(ByteView bytes, std::size_t at) noexcept {
  T value{};
  if (bytes.size() >= at + sizeof(T)) std::memcpy(&value, bytes.data() + at, sizeof(T));
  return value;
}

// Reads a part of the file that is mostly gone through from front to back. Who jumps about in it
// is not let go on for ever.
class Window {
 public:
  Window(const ElfFile& file, std::uint64_t offset, std::uint64_t size)
      : file_(file), offset_(offset), size_(size), fills_(4 * (size / kWindow) + 256) {}

  // n bytes at `at`, or none.
  ByteView at(std::uint64_t at, std::size_t n) {
    if (at > size_ || n > size_ - at) return {};
    if (at < begin_ || at + n > begin_ + buffer_.size()) {
      if (fills_ == 0) return {};
      --fills_;
      begin_ = at;
      buffer_ =
          file_.bytes(offset_ + at, std::min<std::uint64_t>(std::max(n, kWindow), size_ - at));
      if (buffer_.size() < n) return {};
    }
    return ByteView(buffer_).subspan(static_cast<std::size_t>(at - begin_), n);
  }

 private:
  const ElfFile& file_;
  std::uint64_t offset_, size_;
  std::uint64_t fills_;
  std::uint64_t begin_ = 0;
  std::vector<std::uint8_t> buffer_;
};

// By their place among the names: which of those that are wanted.
std::map<std::uint32_t, std::size_t> find_names(const ElfFile& file, std::uint64_t offset,
                                                std::uint64_t size,
                                                std::span<const std::string_view> names) {
  std::map<std::uint32_t, std::size_t> found;
  std::size_t longest = 0;
  for (const std::string_view name : names) longest = std::max(longest, name.size());
  Window window(file, offset, size);
  for (std::uint64_t at = 0; at < size;) {
    const auto n = static_cast<std::size_t>(std::min<std::uint64_t>(kWindow, size - at));
    const ByteView bytes = window.at(at, n);
    if (bytes.empty()) break;
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    std::size_t begin = 0;
    for (std::size_t end; (end = text.find('\0', begin)) != text.npos; begin = end + 1) {
      if (end - begin > longest) continue;
      const auto it = std::find(names.begin(), names.end(), text.substr(begin, end - begin));
      if (it != names.end()) {
        found[static_cast<std::uint32_t>(at + begin)] =
            static_cast<std::size_t>(it - names.begin());
      }
    }
    // a name that reaches over the window's end is looked at whole, unless it is longer than that
    at += begin > 0 ? begin : n;
  }
  return found;
}

}  // namespace

Result<std::vector<GoFunction>> find_go_functions(const ElfFile& file,
                                                  std::span<const std::string_view> names) {
  const ElfFile::Section* table = file.section(".gopclntab");
  if (table == nullptr) table = file.section(".data.rel.ro.gopclntab");
  if (table == nullptr || table->size < kHeader || table->size > kMaxSize) {
    return fail(ErrorCode::unsupported, "no table of Go's functions");
  }
  const auto head = file.bytes(table->offset, kHeader);
  const auto magic = number_at<std::uint32_t>(head, 0);
  if ((magic != kMagic118 && magic != kMagic120) || number_at<std::uint8_t>(head, 7) != 8) {
    return fail(ErrorCode::unsupported, "a table of Go's functions of unknown form");
  }
  const auto count = number_at<std::uint64_t>(head, kCount);
  const auto names_at = number_at<std::uint64_t>(head, kNames);
  const auto names_end = number_at<std::uint64_t>(head, kNamesEnd);
  const auto functions = number_at<std::uint64_t>(head, kFunctions);
  if (count > kMaxFunctions || names_at > names_end || names_end > table->size ||
      functions > table->size || count * 8 + 4 > table->size - functions) {
    return fail(ErrorCode::unsupported, "a broken table of Go's functions");
  }
  std::uint64_t text = file.pointer_at(table->address + kText);
  if (const ElfFile::Section* module = file.section(".go.module"); text == 0 && module != nullptr) {
    text = file.pointer_at(module->address + kModuleText);
  }
  if (const ElfFile::Section* code = file.section(".text"); text == 0 && code != nullptr) {
    text = code->address;
  }

  const auto wanted = find_names(file, table->offset + names_at, names_end - names_at, names);
  std::vector<GoFunction> out(names.size());
  const std::uint64_t base = table->offset + functions, size = table->size - functions;
  Window entries(file, base, size), details(file, base, size);
  for (std::uint64_t i = 0; i < count; ++i) {
    const ByteView entry = entries.at(i * 8, 12);
    if (entry.empty()) break;
    const ByteView detail = details.at(number_at<std::uint32_t>(entry, 4), 8);
    if (detail.empty()) break;
    const auto it = wanted.find(number_at<std::uint32_t>(detail, 4));
    if (it == wanted.end()) continue;
    const std::uint64_t begin = number_at<std::uint32_t>(entry, 0);
    const std::uint64_t end = number_at<std::uint32_t>(entry, 8);
    if (begin >= end || out[it->second].entry != 0) continue;
    out[it->second] = {text + begin, text + end};
  }
  return out;
}

}  // namespace olly::tls
