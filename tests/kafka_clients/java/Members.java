import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.clients.consumer.RoundRobinAssignor;
import org.apache.kafka.common.Cluster;
import org.apache.kafka.common.Configurable;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * Members of groups, as many as it is told of by lines of standard input.
 *
 * <pre>
 *   Members BOOTSTRAP
 *   join GROUP TOPIC ASSIGNOR,...      leave GROUP
 * </pre>
 *
 * Prints JSON lines: "assigned" with all partitions that the member has, at every change;
 * "consumed" with partition and value; "leading" whenever the member shares out; "left";
 * "failed". What was consumed is committed at once.
 */
public final class Members {
    private static final Duration POLL = Duration.ofMillis(100);

    private Members() {}

    public static void main(String[] arguments) throws IOException {
        Map<String, Member> members = new HashMap<>();
        InputStreamReader input = new InputStreamReader(System.in, StandardCharsets.UTF_8);
        BufferedReader orders = new BufferedReader(input);
        for (String line = orders.readLine(); line != null; line = orders.readLine()) {
            String[] words = line.split(" ");
            if (words[0].equals("join")) {
                Member member = new Member(arguments[0], words[1], words[2], words[3]);
                members.put(words[1], member);
                Thread thread = new Thread(member, words[1]);
                thread.setDaemon(true);
                thread.start();
            } else {
                members.get(words[1]).leaving = true;
            }
        }
    }

    private static void report(String event, String group, String fields) {
        System.out.println(
                "{\"event\":\"" + event + "\",\"group\":\"" + group + "\"" + fields + "}");
    }

    private static void reportLeading(String group, int members) {
        report("leading", group, ",\"members\":" + members);
    }

    private static String assignorClass(String name) {
        switch (name) {
            case "range":
                return Range.class.getName();
            case "roundrobin":
                return RoundRobin.class.getName();
            case "cooperative-sticky":
                return Cooperative.class.getName();
            default:
                throw new IllegalArgumentException(name);
        }
    }

    /** Java's own, which says when it is asked. */
    public static final class Range extends RangeAssignor implements Configurable {
        private String group;

        @Override
        public void configure(Map<String, ?> settings) {
            group = (String) settings.get("group.id");
        }

        @Override
        public GroupAssignment assign(Cluster cluster, GroupSubscription subscriptions) {
            reportLeading(group, subscriptions.groupSubscription().size());
            return super.assign(cluster, subscriptions);
        }
    }

    /** Java's own, which says when it is asked. */
    public static final class RoundRobin extends RoundRobinAssignor implements Configurable {
        private String group;

        @Override
        public void configure(Map<String, ?> settings) {
            group = (String) settings.get("group.id");
        }

        @Override
        public GroupAssignment assign(Cluster cluster, GroupSubscription subscriptions) {
            reportLeading(group, subscriptions.groupSubscription().size());
            return super.assign(cluster, subscriptions);
        }
    }

    /** Java's own, which says when it is asked. */
    public static final class Cooperative extends CooperativeStickyAssignor
            implements Configurable {
        private String group;

        @Override
        public void configure(Map<String, ?> settings) {
            group = (String) settings.get("group.id");
        }

        @Override
        public GroupAssignment assign(Cluster cluster, GroupSubscription subscriptions) {
            reportLeading(group, subscriptions.groupSubscription().size());
            return super.assign(cluster, subscriptions);
        }
    }

    private static final class Member implements Runnable, ConsumerRebalanceListener {
        private final String group;
        private final String topic;
        private final KafkaConsumer<String, String> consumer;
        private final TreeSet<Integer> owned = new TreeSet<>();
        private final Map<TopicPartition, OffsetAndMetadata> uncommitted = new HashMap<>();
        private volatile boolean leaving;

        Member(String bootstrap, String group, String topic, String assignors) {
            this.group = group;
            this.topic = topic;
            Map<String, Object> settings = Map.of(
                    "bootstrap.servers", bootstrap,
                    "group.id", group,
                    "partition.assignment.strategy", Stream.of(assignors.split(","))
                            .map(Members::assignorClass).collect(Collectors.toList()),
                    "heartbeat.interval.ms", 100,
                    "enable.auto.commit", false,
                    "auto.offset.reset", "earliest");
            var deserializer = new StringDeserializer();
            consumer = new KafkaConsumer<>(settings, deserializer, deserializer);
        }

        @Override
        public void run() {
            try {
                consumer.subscribe(List.of(topic), this);
                while (!leaving) {
                    for (ConsumerRecord<String, String> found : consumer.poll(POLL)) {
                        consumed(found);
                    }
                    commit();
                }
                consumer.close();
                report("left", group, "");
            } catch (RuntimeException thrown) {
                thrown.printStackTrace();
                report("failed", group, ",\"error\":\"" + thrown.getClass() + "\"");
            }
        }

        private void consumed(ConsumerRecord<String, String> found) {
            var partition = new TopicPartition(found.topic(), found.partition());
            uncommitted.put(partition, new OffsetAndMetadata(found.offset() + 1));
            report("consumed", group, ",\"partition\":" + found.partition()
                    + ",\"value\":\"" + found.value() + "\"");
        }

        private void commit() {
            if (uncommitted.isEmpty()) {
                return;
            }
            try {
                consumer.commitSync(uncommitted);
                uncommitted.clear();
            } catch (RebalanceInProgressException joining) {
                // A cooperative member reads on while it joins: the next poll ends that.
                return;
            }
        }

        private void reportOwned() {
            String all = owned.stream().map(String::valueOf).collect(Collectors.joining(","));
            report("assigned", group, ",\"partitions\":[" + all + "]");
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            commit();
            partitions.forEach(partition -> owned.remove(partition.partition()));
            reportOwned();
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            partitions.forEach(partition -> owned.add(partition.partition()));
            reportOwned();
        }

        @Override
        public void onPartitionsLost(Collection<TopicPartition> partitions) {
            report("failed", group, ",\"error\":\"lost " + partitions + "\"");
        }
    }
}
