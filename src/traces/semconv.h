// Attribute keys and well-known values of the OpenTelemetry semantic conventions 1.44.0
// (https://opentelemetry.io/schemas/1.44.0) that Olly emits, and Olly's own. A key is written once,
// here: the conventions rename things.
#pragma once

#include <string_view>

namespace olly::semconv {

inline constexpr std::string_view kSchemaUrl = "https://opentelemetry.io/schemas/1.44.0";

// HTTP (stable)
inline constexpr std::string_view kHttpRequestMethod = "http.request.method";
inline constexpr std::string_view kHttpRequestMethodOriginal = "http.request.method_original";
inline constexpr std::string_view kHttpResponseStatusCode = "http.response.status_code";
inline constexpr std::string_view kHttpRequestBodySize = "http.request.body.size";
inline constexpr std::string_view kHttpResponseBodySize = "http.response.body.size";
inline constexpr std::string_view kHttpMethodOther = "_OTHER";  // value of http.request.method

// URL, endpoints, network (stable)
inline constexpr std::string_view kUrlFull = "url.full";
inline constexpr std::string_view kUrlPath = "url.path";
inline constexpr std::string_view kUrlQuery = "url.query";
inline constexpr std::string_view kUrlScheme = "url.scheme";
inline constexpr std::string_view kServerAddress = "server.address";
inline constexpr std::string_view kServerPort = "server.port";
inline constexpr std::string_view kClientAddress = "client.address";
inline constexpr std::string_view kNetworkPeerAddress = "network.peer.address";
inline constexpr std::string_view kNetworkPeerPort = "network.peer.port";
inline constexpr std::string_view kNetworkProtocolVersion = "network.protocol.version";
inline constexpr std::string_view kNetworkTransport = "network.transport";
inline constexpr std::string_view kNetworkTransportUnix = "unix";  // value of network.transport
inline constexpr std::string_view kUserAgentOriginal = "user_agent.original";
inline constexpr std::string_view kErrorType = "error.type";

// TLS (development; tls.client.server_name of schema 1.27, where it was last called so)
inline constexpr std::string_view kTlsProtocolName = "tls.protocol.name";
inline constexpr std::string_view kTlsProtocolVersion = "tls.protocol.version";
inline constexpr std::string_view kTlsCipher = "tls.cipher";
inline constexpr std::string_view kTlsNextProtocol = "tls.next_protocol";
inline constexpr std::string_view kTlsClientServerName = "tls.client.server_name";

// Databases (stable)
inline constexpr std::string_view kDbSystemName = "db.system.name";
inline constexpr std::string_view kDbNamespace = "db.namespace";
inline constexpr std::string_view kDbOperationName = "db.operation.name";
inline constexpr std::string_view kDbOperationBatchSize = "db.operation.batch.size";
inline constexpr std::string_view kDbCollectionName = "db.collection.name";
inline constexpr std::string_view kDbQueryText = "db.query.text";
inline constexpr std::string_view kDbQuerySummary = "db.query.summary";
inline constexpr std::string_view kDbStoredProcedureName = "db.stored_procedure.name";
inline constexpr std::string_view kDbResponseStatusCode = "db.response.status_code";
// Databases (development)
inline constexpr std::string_view kDbResponseReturnedRows = "db.response.returned_rows";

// RPC (release candidate; 1.45 renames the status code to rpc.status_code)
inline constexpr std::string_view kRpcSystemName = "rpc.system.name";
inline constexpr std::string_view kRpcMethod = "rpc.method";
inline constexpr std::string_view kRpcMethodOriginal = "rpc.method_original";
inline constexpr std::string_view kRpcResponseStatusCode = "rpc.response.status_code";

// Olly's own: what a call's streams carried, and how long it might take (seconds).
inline constexpr std::string_view kRpcRequestMessages = "olly.rpc.request.messages";
inline constexpr std::string_view kRpcResponseMessages = "olly.rpc.response.messages";
inline constexpr std::string_view kRpcTimeout = "olly.rpc.timeout";

}  // namespace olly::semconv
