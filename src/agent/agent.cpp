#include "agent/agent.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <optional>

#include "agent/pipeline.h"
#include "base/log.h"
#include "hook/ebpf/ebpf_provider.h"
#include "hook/joint_provider.h"
#include "hook/socket/socket_provider.h"
#include "hook/stub_provider.h"
#include "metrics/self.h"

namespace olly::agent {
namespace {

constexpr Nanos kIdleWait = 200 * kMillisecond;

// Then nobody else is observed, not even until it is known who it is.
bool chosen_by_pid(const config::Hook& hook) {
  return !hook.include.empty() &&
         std::ranges::all_of(hook.include, [](const auto& one) { return one.pid.has_value(); });
}

std::string host_name() {
  char name[256] = "";
  ::gethostname(name, sizeof name - 1);
  return name;
}

// A header whose span nobody exports would be a lie.
std::vector<olly_inject_rule> inject_rules(const config::Tracing& tracing) {
  const auto http = tracing.protocols.find("http");
  if (!tracing.enabled || (http != tracing.protocols.end() && !http->second)) return {};
  std::vector<olly_inject_rule> rules;
  for (const config::Destination& d : tracing.inject) {
    olly_inject_rule& rule = rules.emplace_back();
    rule.kind = d.by_address ? OLLY_INJECT_ADDRESS : OLLY_INJECT_NAME;
    rule.family = d.v6 ? OLLY_FAMILY_INET6 : OLLY_FAMILY_INET;
    rule.bits = d.bits;
    rule.port = d.port;
    std::ranges::copy(d.address, rule.address);
    d.name.copy(rule.name, sizeof rule.name - 1);
  }
  return rules;
}

}  // namespace

ResourcePtr agent_resource(const config::Config& config) {
  auto resource = std::make_shared<Resource>();
  resource->service_name = config.service_name.empty() ? "olly" : config.service_name;
  resource->pid = static_cast<std::uint32_t>(::getpid());
  AttributeList& attributes = resource->attributes;
  attributes.add("service.name", resource->service_name);
  attributes.add("service.version", OLLY_VERSION);
  attributes.add("process.pid", static_cast<std::int64_t>(resource->pid));
  attributes.add("process.executable.name", "olly");
  attributes.add("host.name", host_name());
  attributes.add("telemetry.sdk.name", "olly");
  attributes.add("telemetry.sdk.language", "cpp");
  attributes.add("telemetry.sdk.version", OLLY_VERSION);
  for (const auto& [key, value] : config.resource_attributes) {
    if (attributes.find(key) == nullptr) {
      // Keys of attributes are static text; these live as long as the configuration, which the
      // agent keeps until it ends.
      attributes.add(std::string_view(key), value);
    }
  }
  return resource;
}

Agent::Agent(AgentOptions options) : options_(std::move(options)), health_(registry_) {}

Agent::~Agent() { stop(); }

Result<std::unique_ptr<EbpfProvider>> Agent::start_ebpf() {
  EbpfOptions options = ebpf_options(options_.config);
  options.capturing = on_at_start();
  options.observe_unknown = options_.roots.empty() && !chosen_by_pid(options_.config.hook);
  options.all_new = !options_.roots.empty();
  options.registry = &registry_;
  auto ebpf = std::make_unique<EbpfProvider>(options);
  if (auto done = ebpf->start(); !done) return std::unexpected(done.error());
  log::info("provider ebpf, capture {}", ebpf->capture());
  return ebpf;
}

SocketOptions Agent::socket_options() {
  SocketOptions options;
  options.path = options_.roots.empty() ? options_.config.hook.socket_path : options_.run_socket;
  options.max_bytes_per_call = options_.config.capture.max_bytes_per_call;
  options.capturing = on_at_start();
  options.inject = inject_rules(options_.config.tracing);
  options.registry = &registry_;
  return options;
}

// Programs that run with libolly.so report beside the kernel, where both name sockets alike.
std::unique_ptr<Provider> Agent::with_library(std::unique_ptr<EbpfProvider> ebpf) {
  if (ebpf->capture() != "sockio") return ebpf;
  auto joint = std::make_unique<JointProvider>(std::move(ebpf));
  if (auto done = joint->listen(socket_options()); !done) {
    log::info("programs with libolly.so are seen by the kernel alone: {}", done.error().message);
    return joint->take_ebpf();
  }
  return joint;
}

Result<std::unique_ptr<Provider>> Agent::start_socket() {
  if (!options_.roots.empty() && options_.run_socket.empty()) {
    return fail(ErrorCode::unsupported, "libolly.so cannot be given to this program");
  }
  auto socket = std::make_unique<SocketProvider>(socket_options());
  if (auto done = socket->start(); !done) return std::unexpected(done.error());
  log::info("provider socket");
  return socket;
}

// The first that really starts, in the order of what it sees; one that was asked for by name is not
// replaced. `olly run` with a stub would be a lie about the program it runs.
Result<std::unique_ptr<Provider>> Agent::choose_provider() {
  using config::ProviderChoice;
  const ProviderChoice choice = options_.config.hook.provider;
  const bool automatic = choice == ProviderChoice::automatic;
  const auto explain = [](const char* name, const Error& error) {
    log::warn("provider {} does not start: {}{}{}", name, error.message,
              error.hint.empty() ? "" : "; ", error.hint);
  };
  std::optional<Error> first;
  if (automatic || choice == ProviderChoice::ebpf) {
    auto ebpf = start_ebpf();
    if (ebpf && automatic && options_.roots.empty()) return with_library(std::move(*ebpf));
    if (ebpf) return std::unique_ptr<Provider>(std::move(*ebpf));
    if (!automatic) return std::unexpected(ebpf.error());
    first = ebpf.error();
    if (options_.roots.empty()) explain("ebpf", *first);
  }
  if (automatic || choice == ProviderChoice::socket) {
    auto socket = start_socket();
    if (socket || !automatic) return socket;
    if (!options_.roots.empty()) return std::unexpected(*first);
    explain("socket", socket.error());
    log::warn("falling back to provider stub: no traffic is seen");
  }
  return std::make_unique<StubProvider>();
}

Result<void> Agent::start() {
  register_self_metrics(registry_);
  resource_ = agent_resource(options_.config);
  started_unix_ = monotonic_now() + monotonic_to_unix_offset();
  exporters_ = std::make_unique<Exporters>(options_.config.exporters, registry_);
  if (auto done = exporters_->start(); !done) return done;
  auto provider = choose_provider();
  if (!provider) {
    exporters_->stop();
    return std::unexpected(provider.error());
  }
  provider_ = std::move(*provider);
  // After the provider: the kernel programs know a listening socket as the agent's own by seeing it
  // begin to listen, and leave out whoever connects to it.
  if (options_.health && options_.config.health.enabled) {
    if (auto done = health_.start(options_.config.health.address); !done) {
      log::warn("{}; {}", done.error().message, done.error().hint);
    }
  }
  for (std::uint32_t pid : options_.roots) provider_->set_process(pid, {});
  if (chosen_by_pid(options_.config.hook)) {
    for (const auto& chosen : options_.config.hook.include) provider_->set_process(*chosen.pid, {});
  }
  if (!on_at_start()) {
    const std::string path = control_path(options_.config.hook.socket_path);
    auto done = control_.start(path, [this](std::string_view word) { return answer(word); });
    if (!done) {  // nobody could ever switch it on
      provider_->stop();
      exporters_->stop();
      health_.stop();
      return done;
    }
    demand_.wanted = demand_.capturing = false;
    stopped_ = monotonic_now();
    log::info("capture is off until `olly trace start`");
  }
  pipeline_ = std::jthread([this](std::stop_token stop) { run_pipeline(stop); });
  health_.set_ready(provider_->name() != "stub");  // a stub has attached nothing
  return {};
}

void Agent::run_pipeline(std::stop_token stop) {
  PipelineOptions options{options_.config, {}, monotonic_to_unix_offset()};
  options.processes.host_name = host_name();
  options.processes.include = options_.config.hook.include;
  options.processes.exclude = options_.config.hook.exclude;
  // Who reports at `olly run`'s own socket was started by it: the kernel need not tell.
  const bool by_socket = provider_->name() == "socket";
  if (!by_socket) options.processes.roots = options_.roots;
  if (by_socket && !options_.roots.empty()) options.processes.include.clear();
  const auto interval = static_cast<Nanos>(options_.config.metrics.interval.count()) * kMillisecond;
  Nanos next_metrics = monotonic_now() + interval;
  Pipeline pipeline(options, *provider_, exporters_->spans(), registry_,
                    [this](Nanos now) { exporters_->advance(now); });
  while (!stop.stop_requested() && provider_->poll(pipeline, kIdleWait)) {
    apply_capture(pipeline);
    if (const Nanos now = monotonic_now(); now >= next_metrics) {
      next_metrics = now + interval;
      send_metrics();
    }
  }
  provider_->stop();
  provider_->poll(pipeline, 0);  // what was still in the rings
  pipeline.finish(monotonic_now());
  send_metrics();
}

// What nobody saw while it was off must not look like what did not happen.
void Agent::apply_capture(EventSink& pipeline) {
  const std::lock_guard lock(demand_.mutex);
  demand_.programs = provider_->programs();
  if (demand_.wanted == demand_.capturing) return;
  demand_.capturing = demand_.wanted;
  if (!demand_.capturing) stopped_ = monotonic_now();
  provider_->set_capture(demand_.capturing);
  if (demand_.capturing) pipeline.on_loss({stopped_, monotonic_now()});
  log::info("capture is {}", demand_.capturing ? "on" : "off");
  demand_.applied.notify_all();
}

// On the control server's thread.
std::string Agent::answer(std::string_view word) {
  std::unique_lock lock(demand_.mutex);
  if (word != "status") {
    if (word != "start" && word != "stop") return fmt::format("unknown word '{}'", word);
    demand_.wanted = word == "start";
    provider_->wake();
    demand_.applied.wait_for(lock, std::chrono::seconds(3),
                             [this] { return demand_.capturing == demand_.wanted; });
  }
  return fmt::format("capture is {}; provider {}, {} program{} with libolly.so",
                     demand_.capturing ? "on" : "off", provider_->name(), demand_.programs,
                     demand_.programs == 1 ? "" : "s");
}

void Agent::send_metrics() {
  exporters_->metrics(collect_metrics(registry_, resource_, started_unix_,
                                      monotonic_now() + monotonic_to_unix_offset()));
}

void Agent::stop() {
  health_.set_ready(false);
  control_.stop();
  if (pipeline_.joinable()) {
    pipeline_.request_stop();
    provider_->wake();
    pipeline_.join();
  }
  if (exporters_) exporters_->stop();
  health_.stop();
}

}  // namespace olly::agent
