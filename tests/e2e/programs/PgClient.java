import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;

/**
 * Runs the plan that it reads from stdin with the JDBC driver, and prints what became of each
 * operation: `id n rows code`. A line of the plan is `connection TAB id TAB kind TAB number TAB SQL`;
 * an empty line ends it. Kinds: prepared (number = argument), again (number = how often), statement,
 * fetch (number = fetch size, in a transaction).
 */
public class PgClient {
  record Operation(int id, String kind, int number, String sql) {}

  static synchronized void log(int id, int n, int rows, String code) {
    System.out.println(id + " " + n + " " + rows + " " + code);
  }

  static int count(ResultSet rows) throws SQLException {
    int n = 0;
    while (rows != null && rows.next()) n++;
    return n;
  }

  static void one(Connection c, Operation o) throws SQLException {
    int n = 0;
    try {
      switch (o.kind) {
        case "prepared", "again" -> {
          try (PreparedStatement s = c.prepareStatement(o.sql)) {
            int times = o.kind.equals("again") ? o.number : 1;
            for (; n < times; n++) {
              if (o.sql.contains("?")) s.setInt(1, o.number);
              boolean result = s.execute();
              log(o.id, n, result ? count(s.getResultSet()) : 0, "");
            }
          }
        }
        case "statement" -> {
          try (Statement s = c.createStatement()) {
            boolean result = s.execute(o.sql);
            log(o.id, 0, result ? count(s.getResultSet()) : 0, "");
          }
        }
        case "fetch" -> {
          c.setAutoCommit(false);
          try (Statement s = c.createStatement()) {
            s.setFetchSize(o.number);
            log(o.id, 0, count(s.executeQuery(o.sql)), "");
          }
          c.commit();
          c.setAutoCommit(true);
        }
        default -> throw new IllegalArgumentException(o.kind);
      }
    } catch (SQLException e) {
      log(o.id, n, 0, e.getSQLState());
    }
  }

  public static void main(String[] args) throws Exception {
    BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
    List<List<Operation>> plans = new ArrayList<>();
    for (String line = in.readLine(); line != null && !line.isEmpty(); line = in.readLine()) {
      String[] f = line.split("\t", 5);
      int connection = Integer.parseInt(f[0]);
      while (plans.size() <= connection) plans.add(new ArrayList<>());
      plans.get(connection)
          .add(new Operation(Integer.parseInt(f[1]), f[2], Integer.parseInt(f[3]), f[4]));
    }
    Properties properties = new Properties();
    properties.setProperty("user", "olly");
    properties.setProperty("assumeMinServerVersion", "9.0");
    properties.setProperty("sslmode", "prefer");
    List<Thread> threads = new ArrayList<>();
    for (List<Operation> plan : plans) {
      Thread t =
          new Thread(
              () -> {
                try (Connection c =
                    DriverManager.getConnection(
                        "jdbc:postgresql://127.0.0.1:" + args[0] + "/shop", properties)) {
                  Thread.sleep(200); // for an observer to notice the connection
                  for (Operation o : plan) one(c, o);
                } catch (SQLException | InterruptedException e) {
                  throw new IllegalStateException(e);
                }
              });
      threads.add(t);
      t.start();
    }
    for (Thread t : threads) t.join();
  }
}
