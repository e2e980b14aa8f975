import com.sun.jna.Memory;
import com.sun.jna.Native;
import com.sun.jna.NativeLibrary;
import com.sun.jna.Pointer;
import com.sun.jna.ptr.PointerByReference;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.ThreadLocalRandom;

/**
 * A message router in Java that asks libgate by JNA (Debian's libjna-java):
 *
 * <pre>
 *   javac -cp /usr/share/java/jna.jar -d build examples/in-process/java/Check.java
 *   java -cp /usr/share/java/jna.jar:build -Djna.library.path=build Check DATA_DIRECTORY APP_KEY CASES [USERS] [CHECKS]
 * </pre>
 *
 * What it prints, and what it measures: see ../c/check.c.
 */
public final class Check {
    /** Answers for one App. Any thread may ask; none may ask after {@link #close}. */
    static final class Gate implements AutoCloseable {
        private static final int MAX_ID = 64;

        static {
            Native.register(Gate.class, NativeLibrary.getInstance("gate"));
        }

        /* Addresses as numbers: JNA passes these without an object for each. */
        private static native long gate_open(String directory, String key, Pointer error, long errorSize);

        private static native int gate_may_send(long gate, long from, long fromLength, long to, long toLength);

        private static native int gate_verdict(long gate, long from, long fromLength, long to, long toLength, long word, long until);

        private static native int gate_status(long gate, long ready, long stale);

        private static native String gate_error(long gate);

        private static native void gate_close(long gate);

        /** Room for two ids outside of the heap, of each thread: libgate reads them there. */
        private static final class Room {
            final Memory memory = new Memory(2 * (MAX_ID + 1) + 32);
            final long from = Pointer.nativeValue(memory), to = from + MAX_ID + 1, word = from + 144, until = from + 152;
        }

        private static final ThreadLocal<Room> ROOM = ThreadLocal.withInitial(Room::new);
        private final long handle;

        Gate(String dataDirectory, String appKey) {
            Memory error = new Memory(300);
            handle = gate_open(dataDirectory, appKey, error, error.size());
            if (handle == 0) {
                throw new IllegalStateException(error.getString(0, "UTF-8"));
            }
        }

        /** May the User {@code from} message {@code to}, now? Ids are the bytes of UTF-8. */
        boolean maySend(byte[] from, byte[] to) {
            Room room = filled(from, to);
            int may = gate_may_send(handle, room.from, from.length, room.to, to.length);
            if (may < 0) {
                throw new IllegalStateException(gate_error(handle));
            }
            return may == 1;
        }

        /** The word of the verdict. */
        String verdict(byte[] from, byte[] to) {
            Room room = filled(from, to);
            if (gate_verdict(handle, room.from, from.length, room.to, to.length, room.word, room.until) < 0) {
                throw new IllegalStateException(gate_error(handle));
            }
            return room.memory.getPointer(room.word - room.from).getString(0, "UTF-8");
        }

        /** For how many ms the facts have not been known to be complete. */
        long staleMs() {
            Room room = ROOM.get();
            if (gate_status(handle, 0, room.until) != 0) {
                throw new IllegalStateException(gate_error(handle));
            }
            return room.memory.getLong(room.until - room.from);
        }

        @Override
        public void close() {
            gate_close(handle);
        }

        private static Room filled(byte[] from, byte[] to) {
            Room room = ROOM.get();
            /* A longer one is refused by its length before it is read. */
            room.memory.write(0, from, 0, Math.min(from.length, MAX_ID));
            room.memory.write(MAX_ID + 1, to, 0, Math.min(to.length, MAX_ID));
            return room;
        }
    }

    private static byte[] bytes(String id) {
        return id.getBytes(StandardCharsets.UTF_8);
    }

    private static void askCases(Gate gate, String path) throws IOException {
        int cases = 0;
        for (String line : Files.readAllLines(Path.of(path))) {
            String[] words = line.trim().split("\\s+");
            if (words.length != 3 || words[0].startsWith("#")) {
                continue;
            }
            String word = gate.verdict(bytes(words[0]), bytes(words[1]));
            if (!word.equals(words[2]) || gate.maySend(bytes(words[0]), bytes(words[1])) != word.equals("allowed")) {
                throw new AssertionError(words[0] + " to " + words[1] + ": " + word + ", expected " + words[2]);
            }
            cases++;
        }
        System.out.println("cases " + cases);
    }

    private static byte[] anyUser(int users) {
        return bytes(String.format("%012d", ThreadLocalRandom.current().nextInt(users)));
    }

    private static void measure(Gate gate, String name, int pairsSize, int roundSize, int users, int checks) {
        byte[][] from = new byte[pairsSize][], to = new byte[pairsSize][];
        for (int i = 0; i < pairsSize; i++) {
            from[i] = anyUser(users);
            to[i] = anyUser(users);
        }
        long best = Long.MAX_VALUE, allowed = 0;
        for (int next = 0; next < checks; ) {
            long start = System.nanoTime();
            for (int i = 0; i < roundSize; i++, next++) {
                allowed += gate.maySend(from[next % pairsSize], to[next % pairsSize]) ? 1 : 0;
            }
            best = Math.min(best, System.nanoTime() - start);
        }
        System.out.println(name + " " + best / roundSize);
        System.err.println(name + ": " + allowed + " of " + checks + " allowed");
    }

    public static void main(String[] words) throws IOException {
        int users = words.length > 3 ? Integer.parseInt(words[3]) : 1_000_000;
        int checks = words.length > 4 ? Integer.parseInt(words[4]) : 2_000_000;
        try (Gate gate = new Gate(words[0], words[1])) {
            System.out.println("stale_ms " + gate.staleMs());
            askCases(gate, words[2]);
            measure(gate, "hot", 1_000, 1_000, users, checks);
            measure(gate, "uniform", 200_000, 10_000, users, checks);
        }
    }
}
