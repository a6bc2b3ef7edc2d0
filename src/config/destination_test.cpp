#include <gtest/gtest.h>

#include "config/loader.h"
#include "config/schema.h"

namespace olly::config {
namespace {

TEST(Destination, Names) {
  auto d = parse_destination("*");
  ASSERT_TRUE(d);
  EXPECT_EQ(d->name, "*");
  EXPECT_EQ(d->port, 0);
  EXPECT_FALSE(d->by_address);
  d = parse_destination("*.Shop.internal:8080");
  ASSERT_TRUE(d);
  EXPECT_EQ(d->name, "*.shop.internal");
  EXPECT_EQ(d->port, 8080);
  d = parse_destination("10.0.*");  // no address: what the request names
  ASSERT_TRUE(d);
  EXPECT_FALSE(d->by_address);
}

TEST(Destination, Addresses) {
  auto d = parse_destination("10.1.0.0/16:80");
  ASSERT_TRUE(d);
  EXPECT_TRUE(d->by_address);
  EXPECT_FALSE(d->v6);
  EXPECT_EQ(d->bits, 16);
  EXPECT_EQ(d->port, 80);
  EXPECT_EQ(d->address[0], 10);
  d = parse_destination("127.0.0.1");
  ASSERT_TRUE(d);
  EXPECT_EQ(d->bits, 32);
  for (const char* text : {"[fd00::/8]:443", "fd00::/8", "[fd00::/8]"}) {
    d = parse_destination(text);
    ASSERT_TRUE(d) << text;
    EXPECT_TRUE(d->v6);
    EXPECT_EQ(d->bits, 8);
    EXPECT_EQ(d->address[0], 0xfd);
  }
}

TEST(Destination, Nonsense) {
  for (const char* text : {"", ":80", "a:", "a:b", "a:0", "a:65536", "10.0.0.0/33", "::/129",
                           "[::1", "[a]", "[::1]x", "a b", "a/b", "a:1:2x"}) {
    EXPECT_FALSE(parse_destination(text)) << text;
  }
  EXPECT_FALSE(parse_destination(std::string(101, 'a')));
}

TEST(Destination, OfTheConfiguration) {
  const auto loaded =
      load("tracing: {propagation: {inject: ['*.internal', '10.0.0.0/8']}}", "olly.yaml", {});
  ASSERT_TRUE(loaded) << loaded.error().message;
  ASSERT_EQ(loaded->config.tracing.inject.size(), 2u);
  EXPECT_EQ(loaded->config.tracing.inject[0].name, "*.internal");
  EXPECT_TRUE(loaded->config.tracing.inject[1].by_address);
  const auto set = load("", "olly.yaml", {{"OLLY_TRACING_PROPAGATION_INJECT", "['*']"}});
  ASSERT_TRUE(set) << set.error().message;
  EXPECT_EQ(set->config.tracing.inject.size(), 1u);
  std::string many = "tracing: {propagation: {inject: [a";
  for (int i = 0; i < 24; ++i) many += ", a";
  EXPECT_FALSE(load(many + "]}}", "olly.yaml", {}));
}

}  // namespace
}  // namespace olly::config
