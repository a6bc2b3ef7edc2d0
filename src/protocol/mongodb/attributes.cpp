#include "protocol/mongodb/attributes.h"

#include <charconv>
#include <string>

#include "protocol/common/database.h"
#include "traces/semconv.h"

namespace olly::mongodb {
namespace {

constexpr std::string_view kSystem = "mongodb";
// error.type of a refusal that gives no code (conventions, error.type).
constexpr std::string_view kOther = "_OTHER";

}  // namespace

void add_command(Exchange& x, const Connection& connection, const Command& c) {
  static thread_local std::string scratch;  // keeps its memory
  AttributeList& out = x.attributes;
  // "{operation} {target}": the collection, else the database.
  scratch.assign(c.operation.empty() ? kSystem : c.operation);
  const std::string_view target = c.collection.empty() ? c.database : c.collection;
  if (!target.empty()) scratch.append(" ").append(target);
  x.name = out.add_text(scratch);
  add_database(x, connection, kSystem);
  if (!c.operation.empty()) out.add(semconv::kDbOperationName, c.operation);
  if (!c.collection.empty()) out.add(semconv::kDbCollectionName, c.collection);
  if (!c.database.empty()) out.add(semconv::kDbNamespace, c.database);
}

void add_outcome(Exchange& x, const Outcome& o) {
  if (o.statements > 1) {
    x.attributes.add(semconv::kDbOperationBatchSize, static_cast<std::int64_t>(o.statements));
  }
  if (o.returned_known) {
    x.attributes.add(semconv::kDbResponseReturnedRows, static_cast<std::int64_t>(o.returned));
  }
  if (!o.failed) return;
  if (o.code == 0) {
    add_no_answer(x, kOther);
    return;
  }
  char text[24];
  const auto end = std::to_chars(text, text + sizeof text, o.code).ptr;
  add_database_error(x, {text, static_cast<std::size_t>(end - text)});
}

}  // namespace olly::mongodb
