import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor.Assignment;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor.GroupSubscription;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor.Subscription;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.clients.consumer.RoundRobinAssignor;
import org.apache.kafka.clients.consumer.internals.ConsumerProtocol;
import org.apache.kafka.common.Cluster;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.utils.Utils;

/**
 * What the Java client computes without a broker, one question per line of standard input, one
 * answer per line of standard output. Fields are divided by tabs; names and bytes are in hex.
 *
 * <pre>
 *   assign  ASSIGNOR  TOPIC:PARTITIONS,...  MEMBER/INSTANCE/METADATA,...  OWN TOPIC,...
 *           -->  MEMBER/ASSIGNMENT/METADATA AS JAVA WRITES IT,...
 *   hash    KEY  PARTITIONS  -->  HASH  PARTITION
 * </pre>
 *
 * Where the client throws, the answer is "error" and what it threw.
 */
final class Parts {
    private Parts() {}

    public static void main(String[] arguments) throws IOException {
        InputStreamReader input = new InputStreamReader(System.in, StandardCharsets.UTF_8);
        BufferedReader questions = new BufferedReader(input);
        PrintStream answers = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        for (String line = questions.readLine(); line != null; line = questions.readLine()) {
            String[] fields = line.split("\t", -1);
            try {
                answers.println(answer(fields));
            } catch (RuntimeException thrown) {
                answers.println("error\t" + thrown);
            }
        }
        answers.flush();
    }

    private static String answer(String[] fields) {
        switch (fields[0]) {
            case "assign":
                return assign(fields);
            case "hash":
                return hash(bytes(fields[1]), Integer.parseInt(fields[2]));
            default:
                throw new IllegalArgumentException(fields[0]);
        }
    }

    private static String assign(String[] fields) {
        // In this order and into such a map a leader puts the members of a JoinGroup answer.
        Map<String, Subscription> subscriptions = new HashMap<>();
        List<String> ids = new ArrayList<>();
        Map<String, String> metadata = new HashMap<>();
        for (String member : items(fields[3])) {
            String[] parts = member.split("/", -1);
            ByteBuffer sent = ByteBuffer.wrap(bytes(parts[2]));
            Subscription subscription = ConsumerProtocol.deserializeSubscription(sent);
            if (!parts[1].equals("-")) {
                subscription.setGroupInstanceId(Optional.of(text(parts[1])));
            }
            String id = text(parts[0]);
            ids.add(id);
            subscriptions.put(id, subscription);
            // A leader may read user data twice, so this comes first.
            short version = ByteBuffer.wrap(bytes(parts[2])).getShort();
            metadata.put(id, hex(ConsumerProtocol.serializeSubscription(subscription, version)));
        }
        GroupSubscription group = new GroupSubscription(subscriptions);
        ConsumerPartitionAssignor assignor = assignor(fields[1]);
        Map<String, Assignment> assignments =
                assignor.assign(cluster(fields[2]), group).groupAssignment();
        List<String> answers = new ArrayList<>();
        for (String id : ids) {
            String assignment = hex(ConsumerProtocol.serializeAssignment(assignments.get(id)));
            String name = hex(ByteBuffer.wrap(id.getBytes(StandardCharsets.UTF_8)));
            answers.add(name + "/" + assignment + "/" + metadata.get(id));
        }
        return String.join(",", answers);
    }

    private static ConsumerPartitionAssignor assignor(String name) {
        switch (name) {
            case "range":
                return new RangeAssignor();
            case "roundrobin":
                return new RoundRobinAssignor();
            case "cooperative-sticky":
                return new CooperativeStickyAssignor();
            default:
                throw new IllegalArgumentException(name);
        }
    }

    private static Cluster cluster(String topics) {
        Node node = new Node(1, "localhost", 9092);
        Node[] nodes = {node};
        List<PartitionInfo> partitions = new ArrayList<>();
        for (String item : items(topics)) {
            int end = item.lastIndexOf(':');
            int count = Integer.parseInt(item.substring(end + 1));
            for (int number = 0; number < count; number++) {
                String topic = item.substring(0, end);
                partitions.add(new PartitionInfo(topic, number, node, nodes, nodes));
            }
        }
        return new Cluster("cluster", List.of(nodes), partitions, Set.of(), Set.of());
    }

    private static String hash(byte[] key, int partitions) {
        int hash = Utils.murmur2(key);
        return hash + "\t" + Utils.toPositive(hash) % partitions;
    }

    private static List<String> items(String field) {
        return field.isEmpty() ? Collections.emptyList() : List.of(field.split(",", -1));
    }

    private static String text(String hex) {
        return new String(bytes(hex), StandardCharsets.UTF_8);
    }

    private static byte[] bytes(String hex) {
        byte[] bytes = new byte[hex.length() / 2];
        for (int index = 0; index < bytes.length; index++) {
            bytes[index] = (byte) Integer.parseInt(hex.substring(2 * index, 2 * index + 2), 16);
        }
        return bytes;
    }

    private static String hex(ByteBuffer buffer) {
        StringBuilder text = new StringBuilder();
        for (ByteBuffer rest = buffer.duplicate(); rest.hasRemaining();) {
            text.append(String.format("%02x", rest.get()));
        }
        return text.toString();
    }
}
