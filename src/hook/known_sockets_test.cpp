// Which sockets the kernel knows.
#include "hook/known_sockets.h"

#include <gtest/gtest.h>

namespace olly::preload {
namespace {

TEST(KnownSockets, OpenedFoundAndClosed) {
  KnownSockets known;
  known.opened(5, 100);
  ASSERT_NE(known.find(5), nullptr);
  EXPECT_EQ(known.find(5)->pid, 100u);
  known.find(5)->claimed = true;
  known.opened(5, 100);  // said again: the claim stays
  EXPECT_TRUE(known.find(5)->claimed);
  known.closed(5);
  EXPECT_EQ(known.find(5), nullptr);
  known.opened(5, 101);
  EXPECT_FALSE(known.find(5)->claimed);
}

TEST(KnownSockets, IsBounded) {
  KnownSockets known;
  for (SocketId sock = 1; sock <= 3 * KnownSockets::kLimit; ++sock) {
    known.opened(sock, 1);
    ASSERT_LE(known.size(), KnownSockets::kLimit);
  }
  EXPECT_NE(known.find(3 * KnownSockets::kLimit), nullptr);
}

}  // namespace
}  // namespace olly::preload
