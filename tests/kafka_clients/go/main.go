// Kafka clients in Go: franz-go, sarama and kafka-go.
//
//	kafka_clients CLIENT BOOTSTRAP produce PREFIX        one topic for each codec: PREFIX-gzip, ...
//	kafka_clients CLIENT BOOTSTRAP verify TOPIC...       reads what any client has produced
//	kafka_clients CLIENT BOOTSTRAP group TOPIC GROUP     consumes in a group, commits, resumes
//	kafka_clients franz-go BOOTSTRAP steady TOPIC PARTITIONS FIRST     writes on (steady.go)
//
// Prints one JSON line for each step done; a step that fails ends the program with its reason.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"time"
)

const (
	recordCount = 12
	groupCount  = 40
	timeout     = 30 * time.Second
)

var codecs = []string{"none", "gzip", "snappy", "lz4", "zstd"}

type header struct {
	name  string
	value []byte
}

type message struct {
	key, value []byte
	headers    []header
}

// A client of one library. Every method fails when ctx ends.
type client interface {
	// The library's module path, for its version.
	module() string
	// Writes messages to partition 0, in order.
	produce(ctx context.Context, topic, codec string, messages []message) error
	// Writes messages to the partitions that their keys choose.
	produceKeyed(ctx context.Context, topic string, messages []message) error
	// Calls check for each of the first count messages of partition 0.
	read(ctx context.Context, topic string, count int, check func(offset int64, m message) error) error
	// Takes count messages in a group, commits behind them, leaves; returns their values.
	consumeInGroup(ctx context.Context, topic, group string, count int) ([]string, error)
}

// Null keys, null values and repeated headers occur, a null key never with a null value.
func record(number int) message {
	var m message
	if number%3 != 0 {
		m.key = []byte(fmt.Sprintf("key-%d", number))
	}
	if number != 1 && number != 5 {
		filling := number * 100
		if number == 11 {
			filling = 50_000
		}
		m.value = []byte(fmt.Sprintf("value-%d-%s", number, strings.Repeat("x", filling)))
	}
	if number%2 == 1 {
		trace := []byte(fmt.Sprintf("t-%d", number))
		m.headers = []header{{"trace", trace}, {"tag", []byte("a")}, {"tag", []byte("b")}}
	}
	return m
}

func same(a, b message) bool {
	if (a.key == nil) != (b.key == nil) || (a.value == nil) != (b.value == nil) {
		return false
	}
	if len(a.headers) != len(b.headers) {
		return false
	}
	for i := range a.headers {
		x, y := a.headers[i], b.headers[i]
		if x.name != y.name || !bytes.Equal(x.value, y.value) {
			return false
		}
	}
	return bytes.Equal(a.key, b.key) && bytes.Equal(a.value, b.value)
}

func report(event string, fields map[string]any) {
	fields["event"] = event
	line, err := json.Marshal(fields)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(line))
}

func produceAll(ctx context.Context, c client, prefix string) error {
	var messages []message
	for number := range recordCount {
		messages = append(messages, record(number))
	}
	for _, codec := range codecs {
		topic := prefix + "-" + codec
		if err := c.produce(ctx, topic, codec, messages); err != nil {
			return fmt.Errorf("%s: %w", topic, err)
		}
		report("produced", map[string]any{"topic": topic, "codec": codec, "count": recordCount})
	}
	return nil
}

func verify(ctx context.Context, c client, topic string) error {
	next := 0
	err := c.read(ctx, topic, recordCount, func(offset int64, found message) error {
		if expected := record(next); offset != int64(next) || !same(found, expected) {
			return fmt.Errorf("offset %d: found %.300v, expected %.300v", offset, found, expected)
		}
		next++
		return nil
	})
	if err == nil && next != recordCount {
		err = fmt.Errorf("%d of %d records", next, recordCount)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", topic, err)
	}
	report("verified", map[string]any{"topic": topic, "count": next})
	return nil
}

func group(ctx context.Context, c client, topic, name string) error {
	var messages []message
	for number := range groupCount {
		key, value := fmt.Sprintf("key-%d", number), fmt.Sprintf("value-%d", number)
		messages = append(messages, message{key: []byte(key), value: []byte(value)})
	}
	if err := c.produceKeyed(ctx, topic, messages); err != nil {
		return err
	}
	first, err := c.consumeInGroup(ctx, topic, name, groupCount/2)
	if err != nil {
		return fmt.Errorf("first consumer: %w", err)
	}
	second, err := c.consumeInGroup(ctx, topic, name, groupCount-len(first))
	if err != nil {
		return fmt.Errorf("second consumer: %w", err)
	}
	seen := map[string]bool{}
	for _, value := range append(append([]string{}, first...), second...) {
		if seen[value] {
			return fmt.Errorf("%s came twice: %v then %v", value, first, second)
		}
		seen[value] = true
	}
	if len(seen) != groupCount {
		return fmt.Errorf("%d of %d values: %v then %v", len(seen), groupCount, first, second)
	}
	report("resumed", map[string]any{"first": len(first), "second": len(second)})
	return nil
}

func version(module string) string {
	info, _ := debug.ReadBuildInfo()
	for _, dependency := range info.Deps {
		if dependency.Path == module {
			return dependency.Version
		}
	}
	return "unknown"
}

func run(arguments []string) error {
	if len(arguments) < 4 {
		return fmt.Errorf("usage: CLIENT BOOTSTRAP COMMAND ARGUMENT...")
	}
	name, bootstrap, command, rest := arguments[0], arguments[1], arguments[2], arguments[3:]
	clients := map[string]client{
		"franz-go": franzGo{bootstrap},
		"sarama":   saramaClient{bootstrap},
		"kafka-go": kafkaGo{bootstrap},
	}
	c, found := clients[name]
	if !found {
		return fmt.Errorf("unknown client %s", name)
	}
	report("client", map[string]any{"name": name, "version": version(c.module())})
	if command == "steady" && name == "franz-go" {
		return steadyOf(bootstrap, rest)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*timeout)
	defer cancel()
	switch {
	case command == "produce":
		return produceAll(ctx, c, rest[0])
	case command == "verify":
		for _, topic := range rest {
			if err := verify(ctx, c, topic); err != nil {
				return err
			}
		}
		return nil
	case command == "group" && len(rest) == 2:
		return group(ctx, c, rest[0], rest[1])
	default:
		return fmt.Errorf("unknown command %s %v", command, rest)
	}
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
