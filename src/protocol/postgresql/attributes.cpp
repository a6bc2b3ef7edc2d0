#include "protocol/postgresql/attributes.h"

#include "protocol/common/database.h"
#include "traces/semconv.h"

namespace olly::postgresql {
namespace {

void add_common(Exchange& x, const Connection& c, std::string_view database) {
  add_database(x, c, kSystem);
  if (!database.empty()) x.attributes.add(semconv::kDbNamespace, database);
}

}  // namespace

void add_request(Exchange& x, const Connection& c, std::string_view database,
                 const sql::Query* query) {
  add_common(x, c, database);
  std::string_view name = kSystem;
  if (query != nullptr) {
    if (!query->text.empty()) x.attributes.add(semconv::kDbQueryText, query->text);
    if (!query->summary.empty()) {
      x.attributes.add(semconv::kDbQuerySummary, query->summary);
      name = query->summary;
    }
    if (query->statements > 1) {
      x.attributes.add(semconv::kDbOperationBatchSize,
                       static_cast<std::int64_t>(query->statements));
    }
  }
  x.name = x.attributes.add_text(name);
}

void add_function(Exchange& x, const Connection& c, std::string_view database) {
  constexpr std::string_view kName = "FUNCTION CALL";
  add_common(x, c, database);
  x.attributes.add(semconv::kDbOperationName, kName);
  x.name = x.attributes.add_text(kName);
}

void add_outcome(Exchange& x, const Outcome& outcome) {
  if (outcome.rows >= 0) x.attributes.add(semconv::kDbResponseReturnedRows, outcome.rows);
  if (!outcome.code.empty()) {
    // 00 is success, 01 a warning.
    if (outcome.code.substr(0, 2) >= "02")
      add_database_error(x, outcome.code);
    else
      x.attributes.add(semconv::kDbResponseStatusCode, outcome.code);
  } else if (!outcome.error_type.empty()) {
    add_no_answer(x, outcome.error_type);
  }
}

}  // namespace olly::postgresql
