#include "conntrack/unseen_tls.h"

#include <gtest/gtest.h>

#include <vector>

namespace olly::conntrack {
namespace {

TEST(UnseenTls, IsSaidOnceAndNotForAnAccident) {
  UnseenTls unseen;
  EXPECT_FALSE(unseen.ended("/a"));
  EXPECT_FALSE(unseen.ended("/a"));
  EXPECT_TRUE(unseen.ended("/a"));
  EXPECT_FALSE(unseen.ended("/a"));
  EXPECT_TRUE(unseen.lives("/b"));
  EXPECT_FALSE(unseen.lives("/b"));
  EXPECT_FALSE(unseen.lives("")) << "a program that nobody knows";
}

TEST(UnseenTls, OfASeenProgramTakesMany) {
  UnseenTls unseen;
  unseen.seen("/a");
  int said = 0, at = 0;
  for (int i = 1; i <= 100; ++i) {
    if (!unseen.ended("/a")) continue;
    ++said;
    at = i;
  }
  EXPECT_EQ(said, 1);
  EXPECT_EQ(at, 20);
}

TEST(UnseenTls, LooksAfterAWhile) {
  UnseenTls unseen;
  std::vector<SocketId> looked;
  unseen.met(1, 10 * kSecond);
  unseen.met(2, 12 * kSecond);
  const auto look = [&](SocketId sock) { looked.push_back(sock); };
  unseen.due(14 * kSecond, look);
  EXPECT_TRUE(looked.empty());
  unseen.due(15 * kSecond, look);
  EXPECT_EQ(looked, std::vector<SocketId>{1});
  unseen.due(60 * kSecond, look);
  EXPECT_EQ(looked, (std::vector<SocketId>{1, 2}));
}

TEST(UnseenTls, IsBounded) {
  UnseenTls unseen;
  for (int i = 0; i < 10000; ++i) {
    unseen.met(static_cast<SocketId>(i), 0);
    unseen.lives("/program/" + std::to_string(i));
  }
  int looked = 0;
  unseen.due(kSecond * 60, [&](SocketId) { ++looked; });
  EXPECT_EQ(looked, 256);
  EXPECT_FALSE(unseen.lives("/another"));
}

}  // namespace
}  // namespace olly::conntrack
