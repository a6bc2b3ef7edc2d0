#include "http.h"

#define MAX_METHOD 20u
#define CHUNK_DIGITS 15u

struct text {
	const char *at;
	size_t n;
};

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

/* `name` is lower case. */
static bool is(struct text t, const char *name)
{
	size_t i;

	for (i = 0; i < t.n; i++) {
		if (!name[i] || lower(t.at[i]) != name[i])
			return false;
	}
	return !name[i];
}

static bool token(char c)
{
	if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'))
		return true;
	switch (c) {
	case '!':
	case '#':
	case '$':
	case '%':
	case '&':
	case '\'':
	case '*':
	case '+':
	case '-':
	case '.':
	case '^':
	case '_':
	case '`':
	case '|':
	case '~':
		return true;
	}
	return false;
}

/* The line at `from`, without its CRLF. A line that ends otherwise, or not at all, is none. */
static bool line_at(const char *b, size_t n, size_t from, struct text *line)
{
	size_t i;

	for (i = from; i < n; i++) {
		const unsigned char c = (unsigned char)b[i];

		if (c == '\r') {
			if (i + 1 >= n || b[i + 1] != '\n')
				return false;
			line->at = b + from;
			line->n = i - from;
			return true;
		}
		if ((c < 0x20 && c != '\t') || c == 0x7f)
			return false;
	}
	return false;
}

static struct text trim(struct text t)
{
	while (t.n && (t.at[0] == ' ' || t.at[0] == '\t'))
		t.at++, t.n--;
	while (t.n && (t.at[t.n - 1] == ' ' || t.at[t.n - 1] == '\t'))
		t.n--;
	return t;
}

/* METHOD SP target SP HTTP/1.x */
static bool start_line(struct text line, struct http_head *out)
{
	struct text method = {line.at, 0};
	size_t i;

	while (method.n < line.n && method.n <= MAX_METHOD && line.at[method.n] >= 'A' &&
	       line.at[method.n] <= 'Z')
		method.n++;
	if (method.n == 0 || method.n > MAX_METHOD || line.n < method.n + 11 ||
	    line.at[method.n] != ' ')
		return false;
	for (i = method.n + 1; i < line.n - 9; i++) {
		if ((unsigned char)line.at[i] <= ' ')
			return false;
	}
	if (__builtin_memcmp(line.at + line.n - 9, " HTTP/1.", 8) != 0 ||
	    (line.at[line.n - 1] != '0' && line.at[line.n - 1] != '1'))
		return false;
	/* What follows is for another one, who need not get to know of it. */
	out->ends = out->refused = is(method, "connect");
	return true;
}

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

/* False: no such digits, or all of them 0. */
static bool read_hex(const char *text, olly_u8 *out, size_t n)
{
	olly_u8 any = 0;
	size_t i;

	for (i = 0; i < n; i++) {
		const int high = hex(text[2 * i]), low = hex(text[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		out[i] = (olly_u8)(high << 4 | low);
		any |= out[i];
	}
	return any != 0;
}

/* W3C Trace Context, 3.2.2: as the agent reads it (src/traces/traceparent.cpp). */
static bool read_parent(struct text t, struct http_trace *out)
{
	olly_u8 version = 0;

	if (t.n < 55 || t.at[2] != '-' || t.at[35] != '-' || t.at[52] != '-')
		return false;
	if (!read_hex(t.at, &version, 1) && !(t.at[0] == '0' && t.at[1] == '0'))
		return false;
	if (version == 0xff || (version == 0 && t.n != 55) || (t.n > 55 && t.at[55] != '-'))
		return false;
	if (!read_hex(t.at + 53, &out->flags, 1) && !(t.at[53] == '0' && t.at[54] == '0'))
		return false;
	return read_hex(t.at + 3, out->trace_id, 16) && read_hex(t.at + 36, out->span_id, 8);
}

static bool number(struct text t, olly_u64 *out)
{
	size_t i;

	*out = 0;
	if (t.n == 0 || t.n > 18)
		return false;
	for (i = 0; i < t.n; i++) {
		if (t.at[i] < '0' || t.at[i] > '9')
			return false;
		*out = *out * 10 + (olly_u64)(t.at[i] - '0');
	}
	return true;
}

/* NAME, NAME:PORT, [V6]:PORT */
static void read_host(struct text t, struct http_head *out)
{
	olly_u64 port = 0;
	size_t i = t.n;

	while (i > 0 && t.at[i - 1] >= '0' && t.at[i - 1] <= '9')
		i--;
	if (i > 0 && i < t.n && t.at[i - 1] == ':' &&
	    number((struct text){t.at + i, t.n - i}, &port) && port <= 65535) {
		out->port = (olly_u16)port;
		t.n = i - 1;
	}
	out->host = t.at;
	out->host_length = (olly_u32)t.n;
}

/* Fields by which others tell receivers of a trace: whoever writes one is instrumented. */
static bool is_trace_context(struct text name)
{
	static const char *const names[] = {
		"traceparent",
		"tracestate",
		"b3",
		"x-b3-traceid",
		"uber-trace-id",
		"x-datadog-trace-id",
		"x-amzn-trace-id",
		"x-cloud-trace-context",
		"sw8",
		"elastic-apm-traceparent",
		"newrelic",
		"x-dynatrace",
	};
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (is(name, names[i]))
			return true;
	}
	return false;
}

struct fields {
	olly_u32 parents, lengths, codings, hosts;
};

static bool field(struct text line, struct http_head *out, struct fields *seen)
{
	struct text name = {line.at, 0}, value;

	while (name.n < line.n && token(line.at[name.n]))
		name.n++;
	if (name.n == 0 || name.n == line.n || line.at[name.n] != ':')
		return false;
	value = trim((struct text){line.at + name.n + 1, line.n - name.n - 1});
	if (is_trace_context(name)) {
		out->refused = true;
		if (is(name, "traceparent")) {
			seen->parents++;
			out->has_parent = read_parent(value, &out->parent);
		}
	} else if (is(name, "content-length")) {
		out->ends |= seen->lengths++ > 0 || !number(value, &out->length);
	} else if (is(name, "transfer-encoding")) {
		out->chunked = is(value, "chunked");
		out->ends |= seen->codings++ > 0 || !out->chunked;
	} else if (is(name, "upgrade") || is(name, "expect")) {
		out->ends = true;
	} else if (is(name, "host") && seen->hosts++ == 0) {
		read_host(value, out);
	}
	return true;
}

bool http_parse(const olly_u8 *bytes, size_t n, struct http_head *out)
{
	const char *b = (const char *)bytes;
	struct fields seen = {0, 0, 0, 0};
	struct text line;
	size_t at = 0;

	__builtin_memset(out, 0, sizeof(*out));
	/* Most of what is looked at is something else: no line of that is searched for its end. */
	while (at < n && at <= MAX_METHOD && b[at] >= 'A' && b[at] <= 'Z')
		at++;
	if (n < 18 || at == 0 || at == n || b[at] != ' ' || !line_at(b, n, 0, &line) ||
	    !start_line(line, out))
		return false;
	at = line.n + 2;
	out->fits = (olly_u32)at;
	for (;;) {
		if (!line_at(b, n, at, &line))
			return false;
		at += line.n + 2;
		if (line.n == 0)
			break;
		if (!field(line, out, &seen)) /* and a field that goes on in the next line */
			return false;
		if (at > 1u << 30)
			return false;
		if (out->size == 0) /* the user agent's first field is Host: RFC 9110 7.2 */
			out->fits = (olly_u32)at;
		out->size = (olly_u32)at;
	}
	out->size = (olly_u32)at;
	out->ends |= seen.lengths && seen.codings;
	if (seen.parents != 1)
		out->has_parent = false;
	return true;
}

static char digit(olly_u8 value)
{
	return (char)(value < 10 ? '0' + value : 'a' + value - 10);
}

static char *put_hex(char *to, const olly_u8 *from, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++) {
		*to++ = digit(from[i] >> 4);
		*to++ = digit(from[i] & 15);
	}
	return to;
}

void http_write(char *to, const struct http_trace *trace)
{
	__builtin_memcpy(to, "traceparent: 00-", 16);
	to = put_hex(to + 16, trace->trace_id, 16);
	*to++ = '-';
	to = put_hex(to, trace->span_id, 8);
	*to++ = '-';
	to = put_hex(to, &trace->flags, 1);
	*to++ = '\r';
	*to = '\n';
}

/* --- from message to message -------------------------------------------------------------------
 */

static void message_done(struct http_flow *f)
{
	f->state = f->ends ? HTTP_LOST : HTTP_START;
	f->line = 0;
	f->left = 0;
}

void http_begin(struct http_flow *f, const struct http_head *head)
{
	f->head = head->size;
	f->line = 0;
	f->left = 0;
	f->ends = head->ends;
	if (head->ends) {
		f->state = HTTP_LOST;
	} else if (head->chunked) {
		f->state = HTTP_CHUNK_SIZE;
	} else if (head->length) {
		f->state = HTTP_BODY;
		f->left = head->length;
	} else {
		f->state = HTTP_START;
	}
}

/* One byte of a chunk's first line, or of the trailers. */
static void chunk_byte(struct http_flow *f, char c)
{
	int value;

	switch (f->state) {
	case HTTP_CHUNK_SIZE:
		value = hex(lower(c));
		if (value >= 0 && f->line < CHUNK_DIGITS) {
			f->left = f->left << 4 | (olly_u64)value;
			f->line++;
			return;
		}
		f->state = HTTP_LOST;
		if (f->line == 0 || (c != '\r' && c != ';' && c != ' '))
			return;
		f->state = HTTP_CHUNK_LINE;
		return;
	case HTTP_CHUNK_LINE:
		if (c != '\n')
			return;
		f->line = 0;
		if (f->left) {
			f->state = HTTP_CHUNK_DATA;
			f->left += 2;
		} else {
			f->state = HTTP_TRAILERS;
		}
		return;
	default: /* HTTP_TRAILERS */
		if (c == '\n' && f->line == 0)
			message_done(f);
		else if (c == '\n')
			f->line = 0;
		else if (c != '\r')
			f->line = 1;
	}
}

static size_t less(olly_u64 a, size_t b)
{
	return a < b ? (size_t)a : b;
}

void http_follow(struct http_flow *f, const olly_u8 *b, size_t n)
{
	struct http_head head;
	size_t at = 0, part;

	while (at < n) {
		if (f->head) {
			part = less(f->head, n - at);
			f->head -= (olly_u32)part;
			at += part;
			continue;
		}
		switch (f->state) {
		case HTTP_LOST:
			return;
		case HTTP_BODY:
		case HTTP_CHUNK_DATA:
			part = less(f->left, n - at);
			f->left -= part;
			at += part;
			if (f->left)
				return;
			if (f->state == HTTP_BODY)
				message_done(f);
			else
				f->state = HTTP_CHUNK_SIZE;
			continue;
		case HTTP_START:
			if (!b || !http_parse(b + at, n - at, &head)) {
				f->state = HTTP_LOST;
				return;
			}
			http_begin(f, &head);
			continue;
		default:
			if (!b) {
				f->state = HTTP_LOST;
				return;
			}
			chunk_byte(f, (char)b[at++]);
		}
	}
}

void http_follow_parts(struct http_flow *f, const struct iovec *parts, olly_u32 count, size_t skip,
		       size_t n)
{
	for (; count > 0 && n > 0; count--, parts++) {
		size_t part = parts->iov_len;

		if (skip >= part) {
			skip -= part;
			continue;
		}
		part = less(n, part - skip);
		http_follow(f, (const olly_u8 *)parts->iov_base + skip, part);
		skip = 0;
		n -= part;
	}
}

/* --- to whom -----------------------------------------------------------------------------------
 */

/* A glob with * and ?; one place to go back to is enough. */
static bool matches(const char *glob, const char *text, size_t n)
{
	const char *star = NULL;
	size_t i = 0, g = 0, from = 0;

	while (i < n) {
		if (g < OLLY_PRELOAD_RULE_NAME && glob[g] == '*') {
			star = glob + g++;
			from = i;
		} else if (g < OLLY_PRELOAD_RULE_NAME && glob[g] &&
			   (glob[g] == '?' || glob[g] == lower(text[i]))) {
			g++;
			i++;
		} else if (star) {
			g = (size_t)(star - glob) + 1;
			i = ++from;
		} else {
			return false;
		}
	}
	while (g < OLLY_PRELOAD_RULE_NAME && glob[g] == '*')
		g++;
	return g == OLLY_PRELOAD_RULE_NAME || !glob[g];
}

static bool same_bits(const olly_u8 *a, const olly_u8 *b, olly_u32 bits)
{
	olly_u32 i;

	for (i = 0; i < bits / 8; i++) {
		if (a[i] != b[i])
			return false;
	}
	return bits % 8 == 0 || (a[i] ^ b[i]) >> (8 - bits % 8) == 0;
}

bool http_allowed(const struct olly_inject_rule *rules, olly_u32 count,
		  const struct http_head *head, olly_u8 family, const olly_u8 address[16],
		  olly_u16 port, bool tls)
{
	const olly_u16 named = head->port ? head->port : tls ? 443 : 80;
	olly_u32 i;

	for (i = 0; i < count && i < OLLY_PRELOAD_MAX_RULES; i++) {
		const struct olly_inject_rule *r = &rules[i];

		if (r->kind == OLLY_INJECT_ADDRESS) {
			if (r->family == family && (r->port == 0 || r->port == port) &&
			    r->bits <= 128 && same_bits(r->address, address, r->bits))
				return true;
		} else if (r->kind == OLLY_INJECT_NAME) {
			if ((r->port == 0 || r->port == named) && head->host_length < 256 &&
			    matches(r->name, head->host, head->host_length))
				return true;
		}
	}
	return false;
}
