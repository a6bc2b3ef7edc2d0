// A gRPC service and its client, of generated code (stock.proto) and the synchronous API.
//
//   grpccpp server PORT
//   grpccpp client PORT CALLS CONNECTIONS SEED    one JSON line per call: what was asked, what came
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "stock.grpc.pb.h"

namespace {

using namespace std::chrono_literals;
using shop::v1::Item;

Item item(std::string data) {
  Item out;
  out.set_data(std::move(data));
  return out;
}

class Stock final : public shop::v1::Stock::Service {
  grpc::Status Unary(grpc::ServerContext*, const Item* in, Item* out) override {
    *out = item({in->data().rbegin(), in->data().rend()});
    return grpc::Status::OK;
  }
  grpc::Status Down(grpc::ServerContext*, const Item* in,
                    grpc::ServerWriter<Item>* writer) override {
    const int count = std::stoi(in->data());
    for (int n = 0; n < count; ++n)
      writer->Write(item(std::string(static_cast<std::size_t>(n), 'd')));
    return grpc::Status::OK;
  }
  grpc::Status Up(grpc::ServerContext*, grpc::ServerReader<Item>* reader, Item* out) override {
    std::size_t total = 0;
    for (Item in; reader->Read(&in);) total += in.data().size();
    *out = item(std::to_string(total));
    return grpc::Status::OK;
  }
  grpc::Status Both(grpc::ServerContext*, grpc::ServerReaderWriter<Item, Item>* stream) override {
    for (Item in; stream->Read(&in);) {
      stream->Write(in);
      stream->Write({});
    }
    return grpc::Status::OK;
  }
  grpc::Status Fail(grpc::ServerContext*, const Item* in, Item*) override {
    return {static_cast<grpc::StatusCode>(std::stoi(in->data())), "a private word"};
  }
  grpc::Status Slow(grpc::ServerContext*, const Item* in, Item* out) override {
    std::this_thread::sleep_for(1s);
    *out = *in;
    return grpc::Status::OK;
  }
};

int serve(const std::string& port) {
  Stock stock;
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:" + port, grpc::InsecureServerCredentials());
  builder.RegisterService(&stock);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (!server) return 1;
  server->Wait();
  return 0;
}

const char* const kNames[] = {
    "OK",        "CANCELLED",      "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
    "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
    "ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
    "DATA_LOSS", "UNAUTHENTICATED"};

struct Done {
  std::string method;
  std::string status;
  std::size_t sent = 1;
  std::size_t received = 0;
  bool timeout = false;
};

class Caller {
 public:
  Caller(const std::shared_ptr<grpc::Channel>& channel, unsigned seed)
      : stub_(shop::v1::Stock::NewStub(channel)),
        absent_(shop::v1::Absent::NewStub(channel)),
        random_(seed) {}

  Done call(const std::string& kind) {
    Done d;
    d.method = "shop.v1." + std::string(kind == "Nope" ? "Absent/" : "Stock/") +
               (kind == "Cancel" ? "Slow" : kind);
    grpc::ClientContext context;
    Item out;
    grpc::Status status;
    if (kind == "Unary" || kind == "Nope") {
      const std::size_t sizes[] = {0, 3, 300, 3000};
      const Item in = item(std::string(sizes[below(4)], 'x'));
      status =
          kind == "Nope" ? absent_->Nope(&context, in, &out) : stub_->Unary(&context, in, &out);
      d.received = status.ok() ? 1 : 0;
    } else if (kind == "Down") {
      const auto reader = stub_->Down(&context, item(std::to_string(below(9))));
      while (reader->Read(&out)) ++d.received;
      status = reader->Finish();
    } else if (kind == "Up") {
      const auto writer = stub_->Up(&context, &out);
      d.sent = below(9);
      for (std::size_t n = 0; n < d.sent; ++n) writer->Write(item(std::string(100, 'u')));
      writer->WritesDone();
      status = writer->Finish();
      d.received = status.ok() ? 1 : 0;
    } else if (kind == "Both") {
      const auto stream = stub_->Both(&context);
      d.sent = below(9);
      for (std::size_t n = 0; n < d.sent; ++n) stream->Write(item(std::string(300, 'b')));
      stream->WritesDone();
      while (stream->Read(&out)) ++d.received;
      status = stream->Finish();
    } else if (kind == "Fail") {
      status = stub_->Fail(&context, item(std::to_string(1 + below(16))), &out);
    } else if (kind == "Slow") {
      d.timeout = true;
      context.set_deadline(std::chrono::system_clock::now() + 200ms);
      status = stub_->Slow(&context, item("1"), &out);
    } else {
      std::thread cancel([&context] {
        std::this_thread::sleep_for(50ms);
        context.TryCancel();
      });
      status = stub_->Slow(&context, item("1"), &out);
      cancel.join();
    }
    d.status = kNames[status.error_code()];
    return d;
  }

 private:
  std::size_t below(std::size_t n) { return random_() % n; }

  std::unique_ptr<shop::v1::Stock::Stub> stub_;
  std::unique_ptr<shop::v1::Absent::Stub> absent_;
  std::mt19937 random_;
};

int call(const std::string& port, std::size_t calls, std::size_t connections, unsigned seed) {
  std::vector<std::string> kinds = {"Unary", "Down", "Up",   "Both",
                                    "Fail",  "Nope", "Slow", "Cancel"};
  std::mt19937 random(seed);
  while (kinds.size() < calls) {
    const std::size_t n = random() % 24;
    kinds.push_back(kinds[n < 20 ? n % 4 : n - 16]);
  }
  std::vector<std::shared_ptr<grpc::Channel>> channels;
  for (std::size_t n = 0; n < connections; ++n) {
    grpc::ChannelArguments own;
    own.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    channels.push_back(
        grpc::CreateCustomChannel("127.0.0.1:" + port, grpc::InsecureChannelCredentials(), own));
    // Else a call may end before it has begun.
    if (!channels.back()->WaitForConnected(std::chrono::system_clock::now() + 20s)) return 1;
  }
  std::mutex lock;
  std::vector<std::thread> threads;
  for (std::size_t n = 0; n < 2 * connections; ++n) {
    // Two threads a channel: their streams interleave.
    threads.emplace_back([&, n] {
      Caller caller(channels[n % connections], seed * 1000 + static_cast<unsigned>(n));
      for (std::size_t i = n; i < calls; i += 2 * connections) {
        const Done d = caller.call(kinds[i]);
        const std::lock_guard hold(lock);
        std::printf(
            "{\"method\": \"%s\", \"status\": \"%s\", \"sent\": %zu, \"received\": %zu, "
            "\"timeout\": %s}\n",
            d.method.c_str(), d.status.c_str(), d.sent, d.received, d.timeout ? "true" : "false");
      }
    });
  }
  for (std::thread& t : threads) t.join();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc > 2 ? argv[1] : "";
  if (what == "server") return serve(argv[2]);
  if (what != "client" || argc < 6) return 2;
  std::string line;
  std::getline(std::cin, line);  // whoever observes it is ready
  return call(argv[2], std::strtoul(argv[3], nullptr, 10), std::strtoul(argv[4], nullptr, 10),
              static_cast<unsigned>(std::strtoul(argv[5], nullptr, 10)));
}
