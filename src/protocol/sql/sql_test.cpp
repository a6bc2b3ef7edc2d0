#include "protocol/sql/sql.h"

#include <gtest/gtest.h>

#include <string>

namespace olly::sql {
namespace {

struct TextCase {
  std::string_view in;
  std::string_view out;
};

std::string text_of(Dialect d, std::string_view in, bool whole = true) {
  Query q;
  normalise(d, in, whole, q);
  return q.text;
}

constexpr TextCase kPostgresql[] = {
    {"", ""},
    {" \t\r\n ", ""},
    {"SELECT 1", "SELECT ?"},
    {"  SELECT\n\t 1 ;  ", "SELECT ? ;"},
    {"SELECT a1, b_2 FROM t3", "SELECT a1, b_2 FROM t3"},
    // Numbers.
    {"SELECT 1.5, .5, 5., 1e10, 1.5E-3, 0x1F, 0o17, 0b101, 1_000_000",
     "SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?"},
    {"SELECT 1+2, 1-2, -3, a-1, 2*a", "SELECT ?+?, ?-?, -?, a-?, ?*a"},
    {"SELECT 123abc", "SELECT ?"},
    {"SELECT x[1:2]", "SELECT x[?:?]"},
    {"FOR i IN 1..10 LOOP", "FOR i IN ?..? LOOP"},
    // Strings.
    {"SELECT 'a'", "SELECT ?"},
    {"SELECT ''", "SELECT ?"},
    {"SELECT 'it''s', 'b'", "SELECT ?, ?"},
    {"SELECT 'back\\' , x", "SELECT ? , x"},
    {"SELECT E'it\\'s\\\\', x", "SELECT ?, x"},
    {"SELECT e'a''b', x", "SELECT ?, x"},
    {"SELECT U&'d\\0061t' UESCAPE '!', U&\"d\\0061t\"", "SELECT ? UESCAPE ?, U&\"d\\0061t\""},
    {"SELECT B'101', x'1F', N'abc'", "SELECT ?, ?, ?"},
    {"SELECT note'x'", "SELECT note?"},
    {"SELECT 'a'\n'b'", "SELECT ? ?"},
    {"SELECT date '2020-01-01', interval '1 day'", "SELECT date ?, interval ?"},
    {"SELECT 'open", "SELECT ?"},
    {"SELECT E'open\\'", "SELECT ?"},
    {"SELECT \"open", "SELECT ?"},
    // Dollar quotes.
    {"SELECT $$it's$$, x", "SELECT ?, x"},
    {"SELECT $a$ $$ $b$ $a$, x", "SELECT ?, x"},
    {"SELECT $_1$x$_1$", "SELECT ?"},
    {"SELECT $\xc3\xa9$x$\xc3\xa9$, y", "SELECT ?, y"},
    {"DO $$ BEGIN PERFORM 1; END $$", "DO ?"},
    {"SELECT $a$ open $A$", "SELECT ?"},
    {"SELECT a$1, b$$c$$", "SELECT a$1, b$$c$$"},
    {"SELECT $1, $23 FROM t WHERE a=$4", "SELECT $1, $23 FROM t WHERE a=$4"},
    {"SELECT $4111111111111111", "SELECT ?"},
    // Names.
    {"SELECT \"a 1\", \"it\"\"s\" FROM \"T\".\"u\"",
     "SELECT \"a 1\", \"it\"\"s\" FROM \"T\".\"u\""},
    {"SELECT \xc3\xa4\xc3\xb6 FROM t", "SELECT \xc3\xa4\xc3\xb6 FROM t"},
    // Comments.
    {"SELECT 1 -- it's\n, 2", "SELECT ? , ?"},
    {"SELECT 5--3\n+1", "SELECT ? +?"},
    {"SELECT/* a /* b */ 'c' */x", "SELECT x"},
    {"/* trace=12 */ SELECT 1", "SELECT ?"},
    {"SELECT 1 /* open ' ", "SELECT ?"},
    {"SELECT 1 --", "SELECT ?"},
    {"SELECT '--' , '/*' , 'x'", "SELECT ? , ? , ?"},
    {"SELECT a /* x */ /* y */ b", "SELECT a b"},
    // Casts, operators, arrays.
    {"SELECT '1'::int, x::numeric(10,2)", "SELECT ?::int, x::numeric(?,?)"},
    {"SELECT a->>'b', c @> '{}', d ? 'e', f #>> '{a}'", "SELECT a->>?, c @> ?, d ? ?, f #>> ?"},
    {"SELECT ARRAY[1, 2, 3], ARRAY['a'], x[3]", "SELECT ARRAY[?], ARRAY[?], x[?]"},
    {"SELECT ARRAY[[1,2],[3,4]]", "SELECT ARRAY[?]"},
    {"SELECT '{1,2}'::int[]", "SELECT ?::int[]"},
    {"SELECT f(1, 'a', x)", "SELECT f(?, ?, x)"},
    // Lists.
    {"SELECT 1 WHERE a IN (1, 2, 3)", "SELECT ? WHERE a IN (?)"},
    {"SELECT 1 WHERE a in(-1,+2,NULL,true)", "SELECT ? WHERE a in(?)"},
    {"SELECT 1 WHERE a IN ($1, $2, $3) AND b=$4", "SELECT ? WHERE a IN (?) AND b=$4"},
    {"SELECT 1 WHERE a IN (1, x)", "SELECT ? WHERE a IN (?, x)"},
    {"SELECT 1 WHERE a IN (1, f(2, 3))", "SELECT ? WHERE a IN (?, f(?, ?))"},
    {"SELECT 1 WHERE (a, b) IN ((1, 2), (3, 4))", "SELECT ? WHERE (a, b) IN (?)"},
    {"SELECT 1 WHERE a IN (SELECT 1)", "SELECT ? WHERE a IN (SELECT ?)"},
    {"SELECT f( x ), g( 1 ) WHERE a IN ( 1 )", "SELECT f( x ), g( ? ) WHERE a IN (?)"},
    {"SELECT 1 WHERE a IN ()", "SELECT ? WHERE a IN ()"},
    {"SELECT 1 WHERE a IN (?, ?, ?)", "SELECT ? WHERE a IN (?)"},
    {"INSERT INTO t (a, b) VALUES (1, 'x'), (2, 'y') , (3, 'z') RETURNING a",
     "INSERT INTO t (a, b) VALUES (?) RETURNING a"},
    {"INSERT INTO t VALUES (DEFAULT, NULL, 1)", "INSERT INTO t VALUES (?)"},
    {"INSERT INTO t VALUES (1, now()), (2, now())", "INSERT INTO t VALUES (?, now())"},
    {"INSERT INTO t VALUES (1, now()), (2, 3), (4, 5)", "INSERT INTO t VALUES (?, now()), (?)"},
    {"INSERT INTO t VALUES ($1, $2), ($3, $4)", "INSERT INTO t VALUES (?)"},
    {"VALUES (1), (2)", "VALUES (?)"},
    {"SELECT * FROM (VALUES (1, 2), (3, 4)) AS v(a, b)", "SELECT * FROM (VALUES (?)) AS v(a, b)"},
    // Secrets in definitions.
    {"ALTER ROLE bob PASSWORD 'hunter2' VALID UNTIL 'infinity'",
     "ALTER ROLE bob PASSWORD ? VALID UNTIL ?"},
    {"ALTER ROLE bob PASSWORD \"hunter2\"", "ALTER ROLE bob PASSWORD ?"},
    {"CREATE SUBSCRIPTION s CONNECTION 'password=hunter2' PUBLICATION p",
     "CREATE SUBSCRIPTION s CONNECTION ? PUBLICATION p"},
    // Odd ends.
    {"SELECT $", "SELECT $"},
    {"SELECT $a", "SELECT $a"},
    {"SELECT \\", "SELECT \\"},
    {")))", ")))"},
    {"SELECT '\0' , 1", "SELECT ?"},
    {"SELECT a;SELECT 'b';", "SELECT a;SELECT ?;"},
};

constexpr TextCase kMysql[] = {
    {"SELECT 1, 'a', \"b\"", "SELECT ?, ?, ?"},
    {"SELECT 'it\\'s', \"say \\\"hi\\\"\", 'a''b', \"a\"\"b\", x", "SELECT ?, ?, ?, ?, x"},
    {"SELECT `a 1`, `b``c` FROM `d`.`t`", "SELECT `a 1`, `b``c` FROM `d`.`t`"},
    {"SELECT 1 # it's\n, 2", "SELECT ? , ?"},
    {"SELECT 1 -- it's\n, 2", "SELECT ? , ?"},
    {"SELECT 5--3", "SELECT ?--?"},
    {"SELECT 1 --", "SELECT ?"},
    {"SELECT /* a /* b */ c", "SELECT c"},
    {"SELECT /*+ MAX_EXECUTION_TIME(1000) */ c", "SELECT c"},
    {"SELECT /*! STRAIGHT_JOIN */ c", "SELECT STRAIGHT_JOIN c"},
    {"SELECT /*!50110 SQL_NO_CACHE */ c, 'x'", "SELECT SQL_NO_CACHE c, ?"},
    {"SELECT /*M!100100 a */ , 'x'", "SELECT a , ?"},
    {"/*!40101 SET NAMES utf8 */;", "SET NAMES utf8 ;"},
    // Nobody can tell where these end: all that follows is one literal.
    {"SELECT /*!99999 ' */ secret1 /* ' */", "SELECT ?"},
    {"SELECT /*!50000 a # */ secret2", "SELECT a ?"},
    {"SELECT /*!50000 a", "SELECT ?"},
    {"SELECT /*! a /*! b */ secret3 */", "SELECT a ?"},
    {"SELECT 0xAF, x'1f', X'1F', b'01', 0b01, n'a', N'b'", "SELECT ?, ?, ?, ?, ?, ?, ?"},
    {"SELECT _utf8mb4'a', _latin1 \"b\", _binary 0x41, _utf8 x'41'", "SELECT ?, ?, ?, ?"},
    {"SELECT _id, _name FROM t", "SELECT _id, _name FROM t"},
    {"SELECT * FROM t WHERE a = ? AND b IN (?, ?, ?)", "SELECT * FROM t WHERE a = ? AND b IN (?)"},
    {"INSERT INTO t VALUES (?, ?), (?, ?)", "INSERT INTO t VALUES (?)"},
    {"INSERT INTO t VALUES (_binary'a', 1), (_binary'b', 2)", "INSERT INTO t VALUES (?)"},
    {"INSERT INTO t (a) VALUES (1) ON DUPLICATE KEY UPDATE a=VALUES(a), b=VALUES(b)",
     "INSERT INTO t (a) VALUES (?) ON DUPLICATE KEY UPDATE a=VALUES(a), b=VALUES(b)"},
    {"SELECT @a, @@global.max_connections, @'q', @`r`",
     "SELECT @a, @@global.max_connections, @?, @`r`"},
    {"CREATE USER 'bob'@'%' IDENTIFIED BY 'hunter2'", "CREATE USER ?@? IDENTIFIED BY ?"},
    {"CREATE USER bob IDENTIFIED WITH mysql_native_password AS '*ABC'",
     "CREATE USER bob IDENTIFIED WITH mysql_native_password AS ?"},
    {"CREATE USER bob IDENTIFIED BY `hunter2`", "CREATE USER bob IDENTIFIED BY ?"},
    {"SET PASSWORD FOR bob = PASSWORD('hunter2')", "SET PASSWORD FOR bob = PASSWORD(?)"},
    {"SELECT 'open", "SELECT ?"},
    {"SELECT 'open\\'", "SELECT ?"},
    {"SELECT `open", "SELECT ?"},
    {"SELECT $$a$$", "SELECT $$a$$"},
    {"SELECT 1e5, 1.5e-5, .5, 12abc", "SELECT ?, ?, ?, ?"},
};

TEST(Sql, PostgresqlText) {
  for (const TextCase& c : kPostgresql) {
    EXPECT_EQ(text_of(Dialect::postgresql, c.in), c.out) << c.in;
  }
}

TEST(Sql, MysqlText) {
  for (const TextCase& c : kMysql) EXPECT_EQ(text_of(Dialect::mysql, c.in), c.out) << c.in;
}

TEST(Sql, OnceIsEnough) {
  for (const TextCase& c : kPostgresql) {
    EXPECT_EQ(text_of(Dialect::postgresql, c.out), c.out) << c.in;
  }
  for (const TextCase& c : kMysql) EXPECT_EQ(text_of(Dialect::mysql, c.out), c.out) << c.in;
}

TEST(Sql, SettingsDecideWhereStringsEnd) {
  constexpr std::string_view kEscaped = "SELECT 'a\\' secret ', x";
  EXPECT_EQ(text_of(Dialect::postgresql_backslash, kEscaped), "SELECT ?, x");
  EXPECT_EQ(text_of(Dialect::mysql, kEscaped), "SELECT ?, x");
  constexpr std::string_view kPlain = "SELECT 'a\\', x";
  EXPECT_EQ(text_of(Dialect::postgresql, kPlain), "SELECT ?, x");
  EXPECT_EQ(text_of(Dialect::mysql_no_backslash, kPlain), "SELECT ?, x");
}

struct SummaryCase {
  std::string_view in;
  std::string_view summary;
  std::size_t statements = 1;
};

constexpr SummaryCase kSummaries[] = {
    {"", "", 0},
    {" ; ;; -- x", "", 0},
    {"SELECT 1", "SELECT"},
    {"select * from songs where id = 1", "select songs"},
    {"SELECT * FROM songs, artists WHERE a = b", "SELECT songs artists"},
    {"SELECT * FROM songs s , artists AS a ORDER BY x, y", "SELECT songs artists"},
    {"SELECT * FROM a JOIN b ON a.x = b.x LEFT OUTER JOIN c USING (x, y), d", "SELECT a b c d"},
    {"SELECT * FROM public.songs, \"My Songs\", s.\"t\"",
     "SELECT public.songs \"My Songs\" s.\"t\""},
    {"SELECT * FROM (SELECT * FROM orders o JOIN customers c ON o.c = c.id) AS x, y",
     "SELECT SELECT orders customers y"},
    {"SELECT * FROM ((a JOIN b ON 1=1) JOIN c ON 2=2)", "SELECT a b c"},
    {"SELECT (SELECT max(x) FROM u) FROM t WHERE id IN (SELECT id FROM v)",
     "SELECT SELECT u t SELECT v"},
    {"SELECT EXTRACT(YEAR FROM d), a IS DISTINCT FROM b FROM t", "SELECT t"},
    {"SELECT SUBSTRING(a FROM 2 FOR 3) FROM t FOR UPDATE", "SELECT t"},
    {"SELECT * FROM generate_series(1, 10) g, t", "SELECT t"},
    {"SELECT * FROM ONLY t, LATERAL (SELECT * FROM u) x", "SELECT t SELECT u"},
    {"SELECT a FROM t UNION ALL SELECT b FROM u", "SELECT t SELECT u"},
    {"(SELECT a FROM t) UNION (SELECT b FROM u)", "SELECT t SELECT u"},
    {"SELECT a INTO TEMP TABLE n FROM t", "SELECT n t"},
    {"SELECT replace(a, 'x', 'y') FROM t WHERE (replace(a, 'x', 'y') = 'z')", "SELECT t"},
    {"WITH x AS (SELECT * FROM t), y (a) AS MATERIALIZED (SELECT 1 FROM x) SELECT * FROM x, y, z",
     "SELECT t SELECT SELECT z"},
    {"WITH RECURSIVE x AS (SELECT 1 UNION SELECT n FROM x) DELETE FROM t USING X WHERE 1=1",
     "SELECT SELECT DELETE t"},
    {"WITH moved AS (DELETE FROM a RETURNING *) INSERT INTO b SELECT * FROM moved",
     "DELETE a INSERT b SELECT"},
    {"INSERT INTO shipping_details (order_id, address) SELECT order_id, address FROM orders",
     "INSERT shipping_details SELECT orders"},
    {"INSERT INTO t(a) VALUES (1) ON CONFLICT (a) DO UPDATE SET a = 2 RETURNING a", "INSERT t"},
    {"UPDATE ONLY t SET a = 1, b = 2 FROM u, v WHERE t.id = u.id", "UPDATE t u v"},
    {"UPDATE t AS x SET a = (SELECT 1 FROM w)", "UPDATE t SELECT w"},
    {"DELETE FROM a.b WHERE x = 1", "DELETE a.b"},
    {"DELETE FROM t USING u JOIN v USING (id) WHERE 1=1", "DELETE t u v"},
    {"MERGE INTO t USING s ON t.id = s.id WHEN MATCHED THEN UPDATE SET a = 1", "MERGE t s"},
    {"TRUNCATE TABLE a, b", "TRUNCATE a b"},
    {"CREATE TABLE x (id int REFERENCES y(id))", "CREATE TABLE x"},
    {"CREATE TEMP TABLE IF NOT EXISTS s.x AS SELECT * FROM y", "CREATE TABLE s.x SELECT y"},
    {"CREATE OR REPLACE VIEW v AS SELECT * FROM t", "CREATE VIEW v SELECT t"},
    {"CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS i ON t (a)", "CREATE INDEX i"},
    {"CREATE INDEX ON t (a)", "CREATE INDEX t"},
    {"ALTER TABLE IF EXISTS ONLY x ADD COLUMN y int", "ALTER TABLE x"},
    {"DROP TABLE IF EXISTS x, y CASCADE", "DROP TABLE x y"},
    {"DROP INDEX CONCURRENTLY i", "DROP INDEX i"},
    {"CREATE FUNCTION f(a int) RETURNS int AS $$ SELECT 1; SELECT 2 $$ LANGUAGE sql",
     "CREATE FUNCTION f"},
    {"CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END", "CREATE FUNCTION f"},
    {"ALTER ROLE bob PASSWORD 'x'", "ALTER ROLE"},
    {"CREATE USER bob", "CREATE USER"},
    {"CALL p(1, 2)", "CALL p"},
    {"EXECUTE stmt (1)", "EXECUTE stmt"},
    {"PREPARE p (int) AS UPDATE t SET a = $1", "PREPARE UPDATE t"},
    {"COPY t (a, b) FROM STDIN", "COPY t"},
    {"COPY (SELECT * FROM t) TO STDOUT", "COPY SELECT t"},
    {"BEGIN", "BEGIN"},
    {"begin; select 1; commit", "begin; select; commit", 3},
    {"COMMIT", "COMMIT"},
    {"ROLLBACK TO SAVEPOINT s", "ROLLBACK"},
    {"START TRANSACTION READ ONLY", "START"},
    {"SET search_path TO a, b", "SET"},
    {"SHOW server_version", "SHOW"},
    {"DECLARE c CURSOR FOR SELECT * FROM t", "DECLARE SELECT t"},
    {"FETCH 10 FROM c", "FETCH"},
    {"GRANT SELECT, INSERT ON t TO bob", "GRANT"},
    {"EXPLAIN SELECT * FROM t", "EXPLAIN SELECT t"},
    {"EXPLAIN (ANALYZE, BUFFERS) UPDATE t SET a = 1", "EXPLAIN UPDATE t"},
    {"EXPLAIN ANALYZE VERBOSE DELETE FROM t", "EXPLAIN DELETE t"},
    {"VALUES (1), (2)", "VALUES"},
    {"TABLE t", "TABLE t"},
    {"LOCK TABLE t IN SHARE MODE", "LOCK"},
    {"DO $$ BEGIN END $$", "DO"},
    {"SELECT * FROM t; INSERT INTO u VALUES (1); ", "SELECT t; INSERT u", 2},
    {"nonsense words here", ""},
    {"12 34", ""},
};

TEST(Sql, PostgresqlSummary) {
  Query q;
  for (const SummaryCase& c : kSummaries) {
    normalise(Dialect::postgresql, c.in, true, q);
    EXPECT_EQ(q.summary, c.summary) << c.in;
    EXPECT_EQ(q.statements, c.statements) << c.in;
  }
}

constexpr SummaryCase kMysqlSummaries[] = {
    {"SELECT * FROM `my songs` AS s, db.`t`", "SELECT `my songs` db.`t`"},
    {"SELECT STRAIGHT_JOIN * FROM a STRAIGHT_JOIN b", "SELECT a b"},
    {"SELECT a INTO @x FROM t", "SELECT t"},
    {"SELECT a INTO OUTFILE '/tmp/x' FROM t", "SELECT t"},
    {"INSERT IGNORE INTO t SET a = 1", "INSERT t"},
    {"INSERT t VALUES (1)", "INSERT t"},
    {"REPLACE INTO t VALUES (1)", "REPLACE t"},
    {"UPDATE LOW_PRIORITY a, b SET a.x = b.x", "UPDATE a b"},
    {"UPDATE a JOIN b ON 1=1 SET a.x = 1", "UPDATE a b"},
    {"DELETE a, b FROM a INNER JOIN b", "DELETE a b"},
    {"CREATE TABLE t LIKE u", "CREATE TABLE t"},
    {"CREATE TABLE t SELECT * FROM u", "CREATE TABLE t SELECT u"},
    {"CREATE DEFINER=`root`@`localhost` PROCEDURE p() BEGIN SELECT 1; SELECT 2; END",
     "CREATE PROCEDURE p"},
    {"LOAD DATA LOCAL INFILE 'x' INTO TABLE t", "LOAD t"},
    {"USE db", "USE"},
    {"SHOW TABLES FROM db", "SHOW"},
    {"SET NAMES utf8mb4", "SET"},
    {"/*!40101 SET NAMES utf8 */;", "SET"},
    {"SELECT 1; SELECT 2", "SELECT; SELECT", 2},
    {"INSERT INTO t SELECT * FROM u ON DUPLICATE KEY UPDATE a = 1", "INSERT t SELECT u"},
};

TEST(Sql, MysqlSummary) {
  Query q;
  for (const SummaryCase& c : kMysqlSummaries) {
    normalise(Dialect::mysql, c.in, true, q);
    EXPECT_EQ(q.summary, c.summary) << c.in;
    EXPECT_EQ(q.statements, c.statements) << c.in;
  }
}

TEST(Sql, Parameterized) {
  Query q;
  const auto parameterized = [&](Dialect d, std::string_view text) {
    normalise(d, text, true, q);
    return q.parameterized;
  };
  EXPECT_TRUE(parameterized(Dialect::postgresql, "SELECT $1"));
  EXPECT_FALSE(parameterized(Dialect::postgresql, "SELECT a ? 'b', '$1'"));
  EXPECT_TRUE(parameterized(Dialect::mysql, "SELECT ?"));
  EXPECT_FALSE(parameterized(Dialect::mysql, "SELECT '?'"));
}

TEST(Sql, CutOff) {
  const auto cut = [](std::string_view text) { return text_of(Dialect::postgresql, text, false); };
  EXPECT_EQ(cut("SELECT 'abc"), "SELECT ?");
  EXPECT_EQ(cut("SELECT * FROM t WHERE a IN (1, 2, 3"), "SELECT * FROM t WHERE a IN (?");
  EXPECT_EQ(cut("SELECT * FROM t WHERE a IN (1, 2, 'x"), "SELECT * FROM t WHERE a IN (?");
  EXPECT_EQ(cut("INSERT INTO t VALUES (1, 2), (3, 4), (5"), "INSERT INTO t VALUES (?)");
  EXPECT_EQ(cut("INSERT INTO t VALUES (1, 2), (3, 4),"), "INSERT INTO t VALUES (?),");
  EXPECT_EQ(cut("INSERT INTO t VALUES (1, 2"), "INSERT INTO t VALUES (?");
  EXPECT_EQ(cut("SELECT $tag$ secret"), "SELECT ?");
  EXPECT_EQ(cut("SELECT $ta"), "SELECT ?");
  EXPECT_EQ(cut("SELECT \"na"), "SELECT ?");

  Query q;
  normalise(Dialect::postgresql, "SELECT * FROM son", false, q);
  EXPECT_EQ(q.summary, "SELECT");
  normalise(Dialect::postgresql, "SELECT * FROM songs ", false, q);
  EXPECT_EQ(q.summary, "SELECT songs");
  normalise(Dialect::postgresql, "SELECT * FROM s.", false, q);
  EXPECT_EQ(q.summary, "SELECT");
  normalise(Dialect::postgresql, "SELECT * FROM s.son", false, q);
  EXPECT_EQ(q.summary, "SELECT");
  normalise(Dialect::postgresql, "SELEC", false, q);
  EXPECT_EQ(q.summary, "");
}

TEST(Sql, LongTextIsCutAtAToken) {
  std::string text = "SELECT ";
  while (text.size() < 3 * kMaxText) text += "column_name, ";
  const std::string out = text_of(Dialect::postgresql, text);
  EXPECT_LE(out.size(), kMaxText);
  EXPECT_GT(out.size(), kMaxText - 16);
  EXPECT_TRUE(out.ends_with("column_name") || out.ends_with(",")) << out;

  std::string list = "SELECT * FROM t WHERE a IN (1";
  for (int i = 0; i < 2000; ++i) list += ", " + std::to_string(i);
  EXPECT_EQ(text_of(Dialect::postgresql, list + ") AND b = 2"),
            "SELECT * FROM t WHERE a IN (?) AND b = ?");
  std::string rows = "INSERT INTO t VALUES (1, 'a')";
  for (int i = 0; i < 2000; ++i) rows += ", (2, 'b')";
  EXPECT_EQ(text_of(Dialect::mysql, rows), "INSERT INTO t VALUES (?)");
}

TEST(Sql, SummaryIsCutAtAToken) {
  std::string text = "SELECT * FROM t0";
  for (int i = 1; i < 100; ++i) text += ", table_" + std::to_string(i);
  Query q;
  normalise(Dialect::postgresql, text, true, q);
  EXPECT_LE(q.summary.size(), kMaxSummary);
  EXPECT_GT(q.summary.size(), kMaxSummary - 10);
  EXPECT_TRUE(q.summary.starts_with("SELECT t0 table_1 "));
  EXPECT_NE(q.summary.back(), '_');
  normalise(Dialect::postgresql, "SELECT * FROM " + std::string(300, 'x'), true, q);
  EXPECT_EQ(q.summary, "SELECT");
}

TEST(Sql, SignsDoNotBecomeAComment) {
  Query q;
  normalise(Dialect::mysql, "SELECT a--/**/ b, `c ' d`, 'x'", true, q);
  EXPECT_EQ(q.text, "SELECT a--b, `c ' d`, ?");
  normalise(Dialect::mysql, "SELECT 5---- \n b, `c ' d`, 'x'", true, q);
  EXPECT_EQ(q.text, "SELECT ?--b, `c ' d`, ?");
}

TEST(Sql, WhatWentThroughStaysAsItIs) {
  Query q;
  const auto twice = [&q](Dialect dialect, std::string_view text) {
    normalise(dialect, text, true, q);
    const std::string once = q.text;
    normalise(dialect, once, true, q);
    EXPECT_EQ(q.text, once) << text;
    return once;
  };
  EXPECT_EQ(twice(Dialect::postgresql, "VALUES (7 [[NULL]] a)"), "VALUES (? [[NULL]] a)");
  EXPECT_EQ(twice(Dialect::postgresql, "SELECT ARRAY[[1, 2], [3]]"), "SELECT ARRAY[?]");
  EXPECT_EQ(twice(Dialect::postgresql, "SELECT ARRAY[[1] [2]]"), "SELECT ARRAY[?]");
  EXPECT_EQ(twice(Dialect::mysql, "SELECT a--# comment"), "SELECT a");
  EXPECT_EQ(twice(Dialect::mysql, "SELECT a ------"), "SELECT a");
  EXPECT_EQ(twice(Dialect::mysql, "SELECT a - -1"), "SELECT a - -?");
}

TEST(Sql, DeepNesting) {
  const std::string open(500, '(');
  const std::string close(500, ')');
  Query q;
  normalise(Dialect::postgresql, "SELECT * FROM " + open + "SELECT 5" + close + " x; SELECT 6",
            true, q);
  EXPECT_EQ(q.statements, 2u);
  EXPECT_EQ(q.text.find('5'), std::string::npos);
  EXPECT_TRUE(q.text.ends_with("x; SELECT ?")) << q.text;
  EXPECT_EQ(q.summary, "SELECT; SELECT");
}

TEST(Sql, ManyCtesNameNoTargets) {
  std::string text = "WITH c0 AS (SELECT 1)";
  for (int i = 1; i < 50; ++i) text += ", c" + std::to_string(i) + " AS (SELECT 1)";
  Query q;
  normalise(Dialect::postgresql, text + " SELECT * FROM c49", true, q);
  EXPECT_EQ(q.summary.find("c49"), std::string::npos) << q.summary;
}

}  // namespace
}  // namespace olly::sql
