package oidc

import (
	"bufio"
	"strconv"
	"strings"
	"testing"
)

// FuzzRedisReply reads any bytes as a reply: no panic, nothing that is deeper or larger than we hold, and what was read, written
// again, reads the same.
func FuzzRedisReply(f *testing.F) {
	for _, seed := range []string{
		"+OK\r\n", "-MOVED 3999 127.0.0.1:6381\r\n", ":-12\r\n", "$5\r\nhello\r\n", "$-1\r\n", "*-1\r\n", "*2\r\n$1\r\na\r\n*1\r\n:1\r\n",
		slotReply("10.0.0.1:6379", "10.0.0.2:6379"), roleMaster, "$99999999999999999999\r\n", "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n",
		"HTTP/1.1 400 Bad Request\r\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data string) {
		budget := redisMaxReply
		value, err := readRedisReply(bufio.NewReader(strings.NewReader(data)), &budget, 1)
		if budget > redisMaxReply-redisItemCost && len(data) > 3 && err == nil {
			t.Errorf("%q cost nothing", data)
		}
		if err != nil {
			if value != nil {
				t.Errorf("%q: both a value and an error: %v, %v", data, value, err)
			}
			return
		}
		written := writeRedisValue(value, 1, t)
		again, err := readRedisReply(bufio.NewReader(strings.NewReader(written)), &budget, 1)
		if budget >= 0 && (err != nil || writeRedisValue(again, 1, t) != written) {
			t.Errorf("%q: written as %q, read again as %v, %v", data, written, again, err)
		}
	})
}

// writeRedisValue is the opposite of readRedisReply.
func writeRedisValue(value any, depth int, t *testing.T) string {
	if depth > redisMaxDepth {
		t.Fatal("too deep")
	}
	switch v := value.(type) {
	case nil:
		return "$-1\r\n"
	case int64:
		return ":" + strconv.FormatInt(v, 10) + "\r\n"
	case string:
		return bulk(v)
	case []any:
		var items []string
		for _, item := range v {
			items = append(items, writeRedisValue(item, depth+1, t))
		}
		return array(items...)
	}
	t.Fatalf("a value of type %T", value)
	return ""
}
