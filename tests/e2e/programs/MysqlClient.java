// Does what a plan says through MariaDB's JDBC driver with server-side statements, and writes down what
// came of it. See mysql_client.py.
import java.nio.file.*;
import java.sql.*;
import java.util.*;
import java.util.concurrent.*;

public class MysqlClient {
  static long[] run(Connection c, String op, String text, String args) throws Exception {
    try {
      if (op.equals("ping")) {
        c.isValid(10);
        return new long[] {-1, 0};
      }
      if (op.equals("query")) {
        try (Statement s = c.createStatement()) {
          return new long[] {count(s, s.execute(text)), 0};
        }
      }
      try (PreparedStatement s = c.prepareStatement(text)) {
        int at = 1;
        for (String arg : args.split(",")) s.setString(at++, arg);
        return new long[] {count(s, s.execute()), 0};
      }
    } catch (SQLException e) {
      return new long[] {-1, e.getErrorCode()};
    }
  }

  static long count(Statement s, boolean rows) throws SQLException {
    if (!rows) return s.getUpdateCount();
    long n = 0;
    try (ResultSet r = s.getResultSet()) {
      while (r.next()) n++;
    }
    return n;
  }

  public static void main(String[] a) throws Exception {
    String options = a[0];
    String port = a[1];
    Path plan = Path.of(a[2]), log = Path.of(a[3]), go = Path.of(a[4]);
    Class.forName("org.mariadb.jdbc.Driver");
    Files.writeString(Path.of(log + ".ready"), "");
    while (!Files.exists(go)) Thread.sleep(10);
    Map<String, List<String[]>> by = new LinkedHashMap<>();
    for (String line : Files.readAllLines(plan)) {
      String[] f = line.split("\t", -1);
      by.computeIfAbsent(f[0], k -> new ArrayList<>()).add(f);
    }
    StringBuffer out = new StringBuffer();
    ExecutorService threads = Executors.newFixedThreadPool(by.size());
    List<Future<?>> all = new ArrayList<>();
    for (Map.Entry<String, List<String[]>> e : by.entrySet()) {
      all.add(
          threads.submit(
              () -> {
                String url =
                    "jdbc:mariadb://127.0.0.1:" + port + "/" + e.getKey()
                        + "?user=joe&password=hunter2&useServerPrepStmts=true&sslMode=disable" + options;
                try (Connection c = DriverManager.getConnection(url)) {
                  for (String[] f : e.getValue()) {
                    long[] r = run(c, f[2], f[3], f[4]);
                    out.append(f[0] + "\t" + f[1] + "\t" + r[0] + "\t" + r[1] + "\n");
                  }
                }
                return null;
              }));
    }
    for (Future<?> f : all) f.get();
    Files.writeString(Path.of(log + ".part"), out);
    Files.move(Path.of(log + ".part"), log);
    Thread.sleep(60000);
  }
}
