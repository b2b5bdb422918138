/*
 * libFuzzer target for the frame parser: garbage, cut into pieces of any size. Whatever comes, no frame is longer than
 * it may be, and the same bytes in other pieces give the same frames.
 */
#include <assert.h>
#include <stdio.h>

#include "../frame.h"

struct outcome {
	unsigned frames;
	bool bad;
	uint64_t digest; /* of the types and payloads, however stdin was cut */
};

static void mix(struct outcome *o, const uint8_t *bytes, size_t length)
{
	for (size_t i = 0; i < length; i++) o->digest = (o->digest ^ bytes[i]) * 1099511628211u;
}

static struct outcome parse(const uint8_t *data, size_t size, size_t piece)
{
	struct outcome o = {.digest = 14695981039346656037u};
	struct frame_reader reader = {0};
	while (size > 0 && !o.bad) {
		size_t length = piece < size ? piece : size;
		const uint8_t *in = data;
		data += length;
		size -= length;
		while (length > 0 && !o.bad) {
			struct frame f;
			enum frame_status status = frame_next(&reader, &in, &length, &f);
			o.bad = status == FRAME_BAD;
			if (status != FRAME_READY) continue;
			assert(f.type == FRAME_STDIN || f.length <= FRAME_BODY_MAX);
			mix(&o, f.body, f.length);
			if (f.type == FRAME_STDIN) continue;
			mix(&o, &f.type, 1);
			o.frames++;
			struct exec_request request;
			if (f.type == FRAME_HELLO_EXEC && exec_request_parse(f.body, f.length, &request)) {
				assert(name_valid(request.id, strlen(request.id)));
				assert(request.path[0] == '/' && strlen(request.path) < sizeof request.path);
			}
		}
	}
	frame_reader_free(&reader);
	return o;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1) return 0;
	struct outcome whole = parse(data + 1, size - 1, size);
	struct outcome pieces = parse(data + 1, size - 1, 1 + data[0]);
	assert(whole.frames == pieces.frames && whole.bad == pieces.bad && whole.digest == pieces.digest);
	return 0;
}
