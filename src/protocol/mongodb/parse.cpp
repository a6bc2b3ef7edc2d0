#include "protocol/mongodb/parse.h"

#include <algorithm>
#include <array>

#include "protocol/mongodb/bson.h"

namespace olly::mongodb {
namespace {

constexpr std::uint32_t kChecksum = 1;
constexpr std::uint32_t kMoreToCome = 2;
constexpr std::uint32_t kExhaustAllowed = 1u << 16;
constexpr std::uint32_t kKnownFlags = kChecksum | kMoreToCome | kExhaustAllowed;
constexpr std::size_t kReplyHeader = 20;
constexpr std::uint32_t kMaxReturned = 16'000'000;

// Commands whose first value is a collection. Of others it may be anything: a user's name, a
// password's owner, a document.
constexpr auto kOfCollection = std::to_array<std::string_view>({"find",
                                                                "insert",
                                                                "update",
                                                                "delete",
                                                                "aggregate",
                                                                "findAndModify",
                                                                "findandmodify",
                                                                "count",
                                                                "distinct",
                                                                "create",
                                                                "createIndexes",
                                                                "dropIndexes",
                                                                "deleteIndexes",
                                                                "drop",
                                                                "listIndexes",
                                                                "collStats",
                                                                "collstats",
                                                                "validate",
                                                                "collMod",
                                                                "reIndex",
                                                                "compact",
                                                                "killCursors",
                                                                "mapReduce",
                                                                "mapreduce",
                                                                "geoSearch",
                                                                "analyze",
                                                                "planCacheClear",
                                                                "datasize",
                                                                "convertToCapped",
                                                                "createSearchIndexes",
                                                                "dropSearchIndex",
                                                                "updateSearchIndex",
                                                                "planCacheListFilters"});
constexpr auto kHandshake = std::to_array<std::string_view>(
    {"hello", "isMaster", "ismaster", "saslStart", "saslContinue", "getnonce", "authenticate"});

template <class List>
bool contains(const List& list, std::string_view name) noexcept {
  return std::find(list.begin(), list.end(), name) != list.end();
}

bool is_known(std::int32_t opcode) noexcept {
  return opcode == 1 || opcode == 2001 || opcode == 2002 || opcode == 2004 ||
         (opcode >= 2005 && opcode <= 2007) || opcode == 2012 || opcode == 2013;
}

std::uint32_t least_length(Opcode opcode) noexcept {
  switch (opcode) {
    case Opcode::reply:
      return kHeader + kReplyHeader;
    case Opcode::query:
      return kHeader + 4 + 2 + 8 + kMinDocument;
    case Opcode::compressed:
      return kHeader + kCompressedHeader + 1;
    case Opcode::message:
      return kHeader + 4 + 1 + kMinDocument;
    default:
      return kHeader + 8 + 2;
  }
}

bool is_word(std::string_view text) noexcept {
  if (text.empty() || text.size() > 64) return false;
  return std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '$' || c == '.' || c == '-';
  });
}

bool is_name(std::string_view text) noexcept { return !text.empty() && text.size() <= kMaxName; }

// "database.collection".
bool split_namespace(std::string_view text, std::string_view& database,
                     std::string_view& collection) noexcept {
  const std::size_t dot = text.find('.');
  if (dot == 0 || dot == std::string_view::npos || dot + 1 == text.size()) return false;
  if (text.size() > kMaxName) return false;
  database = text.substr(0, dot);
  collection = text.substr(dot + 1);
  return std::none_of(text.begin(), text.end(), [](char c) {
    return static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) == 0x7f;
  });
}

enum class Next : std::uint8_t { section, end, cut, invalid };

struct Section {
  std::uint8_t kind = 0;
  std::string_view identifier;  // kind 1
  ByteView documents;           // as far as they were read
  bool whole = false;
};

// The sections of an OP_MSG. `end`: where they end, as the header says; the body may be cut off.
class SectionReader {
 public:
  SectionReader(ByteView body, std::size_t end) noexcept : body_(body), end_(end) {}

  Next next(Section& s) noexcept {
    if (at_ == end_) return Next::end;
    if (at_ >= body_.size()) return Next::cut;
    s = {};
    s.kind = body_[at_];
    if (s.kind > 2) return Next::invalid;
    const std::size_t begin = at_ + 1;
    if (begin + 4 > end_) return Next::invalid;
    if (begin + 4 > body_.size()) return Next::cut;
    const std::size_t size = read_u32(body_, begin);
    if (size < kMinDocument || size > end_ - begin) return Next::invalid;
    at_ = begin + size;
    s.whole = at_ <= body_.size();
    const ByteView all = body_.subspan(begin, std::min(size, body_.size() - begin));
    if (s.kind != 1) {
      s.documents = all;
      return Next::section;
    }
    const std::size_t name = as_text(all.subspan(4)).find('\0');
    if (name == std::string_view::npos) return s.whole ? Next::invalid : Next::cut;
    s.identifier = as_text(all.subspan(4, name));
    if (!is_word(s.identifier)) return Next::invalid;
    s.documents = all.subspan(4 + name + 1);
    return Next::section;
  }

 private:
  ByteView body_;
  std::size_t end_;
  std::size_t at_ = 4;  // behind the flags
};

// Documents one after the other; none unless they are whole.
std::optional<std::uint64_t> count_documents(ByteView documents, bool whole) noexcept {
  if (!whole) return std::nullopt;
  std::uint64_t n = 0;
  while (!documents.empty()) {
    const std::size_t size = BsonReader(documents).size();
    if (size == 0 || size > documents.size()) return std::nullopt;
    documents = documents.subspan(size);
    ++n;
  }
  return n;
}

bool holds_statements(std::string_view operation, std::string_view field) noexcept {
  return (operation == "insert" && field == "documents") ||
         (operation == "update" && field == "updates") ||
         (operation == "delete" && field == "deletes") ||
         (operation == "bulkWrite" && field == "ops");
}

// The first field of `document`, if it is a command on a collection: of an explained one.
std::string_view collection_of(ByteView document) noexcept {
  BsonReader reader(document);
  Element e;
  if (reader.next(e) != BsonStatus::element || !contains(kOfCollection, e.name)) return {};
  const std::string_view name = e.string().value_or(std::string_view{});
  return is_name(name) ? name : std::string_view{};
}

void read_first(const Element& e, Command& c) noexcept {
  c.operation = e.name;
  c.handshake = contains(kHandshake, e.name);
  c.insert = e.name == "insert";
  if (contains(kOfCollection, e.name)) {
    const std::string_view name = e.string().value_or(std::string_view{});
    if (is_name(name)) c.collection = name;
  } else if (e.name == "explain" && e.is_document()) {
    c.collection = collection_of(e.value);
  }
}

// A command document: its first field is what to do.
MessageError read_command(ByteView document, Command& c) noexcept {
  BsonReader reader(document);
  Element e;
  BsonStatus status = reader.next(e);
  if (status == BsonStatus::cut) return MessageError::unreadable;
  if (status != BsonStatus::element || !is_word(e.name)) return MessageError::invalid;
  read_first(e, c);
  for (status = reader.next(e); status == BsonStatus::element; status = reader.next(e)) {
    if (e.name == "$db") {
      const std::string_view name = e.string().value_or(std::string_view{});
      if (is_name(name)) c.database = name;
    } else if (e.name == "collection" && c.operation == "getMore") {
      const std::string_view name = e.string().value_or(std::string_view{});
      if (is_name(name)) c.collection = name;
    } else if (e.type == kArray && e.whole && holds_statements(c.operation, e.name)) {
      c.statements = count_elements(e.value).value_or(0);
    }
  }
  return status == BsonStatus::invalid ? MessageError::invalid : MessageError::none;
}

// Where the sections of an OP_MSG end; 0: it cannot be one.
std::size_t end_of_sections(ByteView body, std::size_t size, std::uint32_t& flags) noexcept {
  if (body.size() < 4 || size < 4 + 1 + kMinDocument) return 0;
  flags = read_u32(body);
  if ((flags & 0xffff & ~kKnownFlags) != 0) return 0;  // bits that must be understood
  if ((flags & kChecksum) == 0) return size;
  return size < 4 + 1 + kMinDocument + 4 ? 0 : size - 4;
}

MessageError parse_op_msg(ByteView body, std::size_t size, Command& c) noexcept {
  std::uint32_t flags = 0;
  const std::size_t end = end_of_sections(body, size, flags);
  if (end == 0) return MessageError::invalid;
  c.no_reply = (flags & kMoreToCome) != 0;
  SectionReader sections(body, end);
  Section s;
  // The sections come in any order; the sequence belongs to the command it is named in.
  std::string_view sequence;
  std::uint64_t documents = 0;
  Next next = sections.next(s);
  for (; next == Next::section; next = sections.next(s)) {
    if (s.kind == 1) {
      if (holds_statements("bulkWrite", s.identifier) || sequence.empty()) {
        sequence = s.identifier;
        documents = count_documents(s.documents, s.whole).value_or(0);
      }
    } else if (s.kind == 0) {
      if (!c.operation.empty()) return MessageError::invalid;  // exactly one
      const MessageError error = read_command(s.documents, c);
      if (error != MessageError::none) return error;
    }
  }
  if (next == Next::invalid) return MessageError::invalid;
  if (c.operation.empty()) {
    return next == Next::cut ? MessageError::unreadable : MessageError::invalid;
  }
  if (holds_statements(c.operation, sequence)) c.statements = documents;
  return MessageError::none;
}

// The NUL-terminated namespace at `at`; moves `at` behind it.
MessageError read_namespace(ByteView body, std::size_t size, std::size_t& at, Command& c) noexcept {
  if (body.size() <= at) return size > at ? MessageError::unreadable : MessageError::invalid;
  const std::string_view text = as_text(body.subspan(at));
  const std::size_t nul = text.find('\0');
  if (nul == std::string_view::npos) {
    const bool may_come = body.size() < size && text.size() <= kMaxName;
    return may_come ? MessageError::unreadable : MessageError::invalid;
  }
  if (!split_namespace(text.substr(0, nul), c.database, c.collection)) return MessageError::invalid;
  at += nul + 1;
  return MessageError::none;
}

// OP_QUERY: flags, namespace, numberToSkip, numberToReturn, document. On `$cmd` it is a command.
MessageError parse_query(ByteView body, std::size_t size, Command& c) noexcept {
  std::size_t at = 4;
  const MessageError error = read_namespace(body, size, at, c);
  if (error != MessageError::none) return error;
  c.exhaust = (read_u32(body) & 0x40) != 0;
  if (!c.collection.starts_with("$cmd")) {
    c.operation = "find";
    c.find = true;
    return MessageError::none;
  }
  c.collection = {};
  if (body.size() < at + 8)
    return body.size() < size ? MessageError::unreadable : MessageError::invalid;
  ByteView document = body.subspan(at + 8);
  // Drivers of old wrap a command that has a read preference.
  BsonReader reader(document);
  Element first;
  if (reader.next(first) == BsonStatus::element && first.is_document() &&
      (first.name == "$query" || first.name == "query")) {
    document = first.value;
  }
  const std::string_view database = c.database;
  const MessageError read = read_command(document, c);
  c.database = database;
  return read;
}

MessageError parse_legacy(Opcode opcode, ByteView body, std::size_t size, Command& c) noexcept {
  if (opcode == Opcode::kill_cursors) {
    c.operation = "killCursors";
    c.no_reply = true;
    return MessageError::none;
  }
  std::size_t at = 4;
  const MessageError error = read_namespace(body, size, at, c);
  if (error != MessageError::none) return error;
  if (opcode == Opcode::get_more) {
    c.operation = "getMore";
    c.find = true;
    return MessageError::none;
  }
  c.no_reply = true;
  c.operation = opcode == Opcode::insert   ? "insert"
                : opcode == Opcode::update ? "update"
                                           : "delete";
  if (opcode == Opcode::insert) {
    c.statements = count_documents(body.subspan(at), body.size() >= size).value_or(0);
  }
  return MessageError::none;
}

std::int64_t code_of(ByteView document) noexcept {
  BsonReader reader(document);
  Element e;
  while (reader.next(e) == BsonStatus::element) {
    if (e.name == "code") return e.integer().value_or(0);
  }
  return 0;
}

// What a command answers. An error is short and says so at once; a reply whose `ok` lies behind
// what was read is a result.
MessageError read_reply(ByteView document, Reply& r) noexcept {
  BsonReader reader(document);
  Element e;
  BsonStatus status = reader.next(e);
  std::int64_t code = 0;
  std::int64_t write_code = 0;
  bool refused = false;
  for (; status == BsonStatus::element; status = reader.next(e)) {
    if (e.name == "ok") {
      refused = e.type == kDouble && e.whole ? read_u64(e.value) << 1 == 0 : e.integer() == 0;
    } else if (e.name == "code") {
      code = e.integer().value_or(0);
    } else if (e.name == "n") {
      r.n = e.integer();
    } else if (e.name == "writeErrors" && e.type == kArray) {
      BsonReader errors(e.value);
      Element first;
      if (errors.next(first) == BsonStatus::element && first.is_document()) {
        r.failed = true;
        write_code = code_of(first.value);
      }
    } else if (e.name == "writeConcernError" && e.is_document()) {
      r.failed = true;
      if (write_code == 0) write_code = code_of(e.value);
    } else if (e.name == "cursor" && e.is_document()) {
      BsonReader cursor(e.value);
      Element field;
      while (cursor.next(field) == BsonStatus::element) {
        const bool batch = field.name == "firstBatch" || field.name == "nextBatch";
        if (batch && field.type == kArray) {
          if (field.whole) r.returned = count_elements(field.value);
          break;
        }
      }
    }
  }
  r.failed = r.failed || refused;
  if (r.failed) r.code = refused ? code : write_code;
  return status == BsonStatus::invalid ? MessageError::invalid : MessageError::none;
}

MessageError parse_op_reply(ByteView body, std::size_t size, bool command, Reply& r) noexcept {
  if (body.size() < kReplyHeader) {
    return size < kReplyHeader ? MessageError::invalid : MessageError::unreadable;
  }
  const std::uint32_t flags = read_u32(body);
  r.cursor_open = read_u64(body, 4) != 0;
  const std::uint32_t returned = read_u32(body, 16);
  if ((flags & ~0xfu) != 0 || returned > kMaxReturned) return MessageError::invalid;
  const ByteView documents = body.subspan(kReplyHeader);
  const bool query_failed = (flags & 2) != 0;
  if (command && !query_failed) {
    return returned == 0 ? MessageError::none : read_reply(documents, r);
  }
  r.failed = query_failed || (flags & 1) != 0;
  if (r.failed)
    r.code = query_failed ? code_of(documents) : 43;  // CursorNotFound
  else
    r.returned = returned;
  return MessageError::none;
}

// --- detection --------------------------------------------------------------------------------

// As far as it is there: valid elements with printable names, the first of them among it.
bool plausible_document(ByteView document) noexcept {
  BsonReader reader(document);
  Element e;
  BsonStatus status = reader.next(e);
  if (status != BsonStatus::element || !is_word(e.name)) return false;
  while (status == BsonStatus::element) status = reader.next(e);
  return status != BsonStatus::invalid;
}

bool plausible_op_msg(ByteView body, std::size_t size) noexcept {
  std::uint32_t flags = 0;
  const std::size_t end = end_of_sections(body, size, flags);
  if (end == 0 || (flags & ~kKnownFlags) != 0) return false;
  SectionReader sections(body, end);
  Section s;
  Next next = sections.next(s);
  bool document = false;
  bool first = true;
  for (; next == Next::section; next = sections.next(s), first = false) {
    if (s.kind == 0) {
      if (document || !plausible_document(s.documents)) return false;
      document = true;
    } else if (s.kind == 1 && !s.documents.empty()) {
      const BsonReader reader(s.documents);
      if (s.documents.size() >= 4 && reader.size() == 0) return false;
    }
  }
  if (next == Next::invalid) return false;
  return next == Next::end ? document : !first;
}

bool plausible_legacy(Opcode opcode, ByteView body, std::size_t size) noexcept {
  const std::uint32_t flags = read_u32(body);
  Command c;
  std::size_t at = 4;
  switch (opcode) {
    case Opcode::kill_cursors: {
      const std::uint64_t ids = read_u32(body, 4);
      return flags == 0 && ids > 0 && size == 8 + ids * 8;
    }
    case Opcode::query:
    case Opcode::insert:
      if ((flags & ~0xffu) != 0) return false;
      break;
    default:
      if (flags != 0) return false;  // "ZERO"
  }
  if (read_namespace(body, size, at, c) != MessageError::none) return false;
  if (opcode == Opcode::get_more) return size == at + 12;
  if (opcode == Opcode::query) at += 8;
  if (opcode == Opcode::update || opcode == Opcode::remove) at += 4;
  if (at + kMinDocument > size) return false;
  if (at + 4 > body.size()) return true;
  const std::size_t document = BsonReader(body.subspan(at)).size();
  return document >= kMinDocument && document <= size - at;
}

bool plausible_reply(ByteView body, std::size_t size) noexcept {
  const std::uint32_t returned = read_u32(body, 16);
  if ((read_u32(body) & ~0xfu) != 0 || returned > kMaxReturned) return false;
  if (read_u32(body, 12) > 0x7fffffffu) return false;
  if (returned == 0) return size == kReplyHeader;
  if (size < kReplyHeader + returned * std::uint64_t{kMinDocument}) return false;
  const ByteView documents = body.subspan(kReplyHeader);
  const std::size_t first = BsonReader(documents).size();
  return first >= kMinDocument && first <= size - kReplyHeader &&
         (first == kMinDocument || plausible_document(documents));
}

bool plausible_compressed(ByteView body) noexcept {
  Compressed c;
  if (parse_compressed(body, c) != MessageError::none) return false;
  return c.compressor != 0 || c.size == 0 || !c.bytes.empty();
}

}  // namespace

Start look_at_header(ByteView b, Header& h) noexcept {
  if (b.size() >= 4) {
    h.length = read_u32(b);
    if (h.length < kHeader || h.length > kMaxMessage) return Start::no;
  }
  if (b.size() < kHeader) {
    // Every opcode fits into two bytes.
    for (std::size_t i = 14; i < b.size(); ++i) {
      if (b[i] != 0) return Start::no;
    }
    return Start::need_more;
  }
  h.id = read_i32(b, 4);
  h.response_to = read_i32(b, 8);
  const std::int32_t opcode = read_i32(b, 12);
  if (!is_known(opcode)) return Start::no;
  h.opcode = static_cast<Opcode>(opcode);
  return h.length < least_length(h.opcode) ? Start::no : Start::yes;
}

Start look_at_message(ByteView b, Header& h) noexcept {
  const Start start = look_at_header(b, h);
  if (start != Start::yes) return start;
  if (b.size() < std::min<std::size_t>(h.length, kDetect)) return Start::need_more;
  const std::size_t size = h.length - kHeader;
  // What is judged must not depend on how much has come by chance.
  const ByteView body = b.first(std::min<std::size_t>(h.length, kDetect)).subspan(kHeader);
  bool plausible = false;
  switch (h.opcode) {
    case Opcode::message:
      plausible = plausible_op_msg(body, size);
      break;
    case Opcode::reply:
      plausible = plausible_reply(body, size);
      break;
    case Opcode::compressed:
      plausible = plausible_compressed(body);
      break;
    default:
      plausible = plausible_legacy(h.opcode, body, size);
  }
  return plausible ? Start::yes : Start::no;
}

MessageError parse_command(Opcode opcode, ByteView body, std::size_t size, Command& c) noexcept {
  c = {};
  switch (opcode) {
    case Opcode::message:
      return parse_op_msg(body, size, c);
    case Opcode::query:
      return parse_query(body, size, c);
    case Opcode::update:
    case Opcode::insert:
    case Opcode::remove:
    case Opcode::get_more:
    case Opcode::kill_cursors:
      return parse_legacy(opcode, body, size, c);
    default:
      return MessageError::invalid;
  }
}

MessageError parse_reply(Opcode opcode, ByteView body, std::size_t size, bool command,
                         Reply& r) noexcept {
  r = {};
  if (opcode == Opcode::reply) return parse_op_reply(body, size, command, r);
  if (opcode != Opcode::message) return MessageError::invalid;
  std::uint32_t flags = 0;
  const std::size_t end = end_of_sections(body, size, flags);
  if (end == 0) return MessageError::invalid;
  r.more_to_come = (flags & kMoreToCome) != 0;
  SectionReader sections(body, end);
  Section s;
  Next next = sections.next(s);
  for (; next == Next::section; next = sections.next(s)) {
    if (s.kind != 0) continue;
    return read_reply(s.documents, r);
  }
  return next == Next::cut ? MessageError::unreadable : MessageError::invalid;
}

MessageError parse_compressed(ByteView body, Compressed& out) noexcept {
  if (body.size() < kCompressedHeader) return MessageError::unreadable;
  const std::int32_t opcode = read_i32(body);
  if (!is_known(opcode) || opcode == static_cast<std::int32_t>(Opcode::compressed)) {
    return MessageError::invalid;
  }
  out.opcode = static_cast<Opcode>(opcode);
  out.size = read_u32(body, 4);
  out.compressor = body[8];
  out.bytes = body.subspan(kCompressedHeader);
  if (out.size + kHeader < least_length(out.opcode) || out.size > kMaxMessage ||
      out.compressor > 3) {
    return MessageError::invalid;
  }
  return MessageError::none;
}

}  // namespace olly::mongodb
