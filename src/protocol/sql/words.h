// The words of SQL that a summary is made of.
#pragma once

#include <cstdint>
#include <string_view>

namespace olly::sql {

enum class Word : std::uint8_t {
  other,
  alter,
  array,
  as,
  begin,
  by,
  call,  // and EXECUTE
  copy,
  create,
  del,
  distinct,
  drop,
  ends_list,  // of FROM: WHERE, GROUP, ...
  explain,
  for_,
  from,
  identified,
  in,
  insert,  // and REPLACE
  into,
  join,
  literal,  // NULL, TRUE, ...
  load,
  materialized,
  merge,
  object,     // INDEX, VIEW, ...: what CREATE, ALTER and DROP are about
  operation,  // begins a statement; no more is said about it
  password,
  person,  // USER, ROLE: their names stay out of summaries
  prepare,
  recursive,
  routine,  // FUNCTION, TRIGGER, ...: an object with a body
  select,
  set,
  skipped,        // may stand between an operation and its target
  skipped_ddl,    // the same, in CREATE, ALTER and DROP only
  skipped_mysql,  // the same, in MySQL only
  straight_join,
  table,
  truncate,
  update,
  using_,
  values,
  with,
};

// Case does not matter. Words that mean nothing here are `other`.
Word word_of(std::string_view text) noexcept;

}  // namespace olly::sql
