/** Scenarios in PostgreSQL. A transaction sees those of one workspace, whatever it sends: docs/isolation.md. */
import pg from "pg";

import prepare from "../prepare.sql?raw";

const LOGIN = "roleplay_web:roleplay_web"; // of a database that only this machine reaches
const PATIENCE = { connectionTimeoutMillis: 5_000, query_timeout: 5_000 };
const COLUMNS = "id, title, plays, played_by";
const READ = `SELECT ${COLUMNS} FROM roleplay_scenarios ORDER BY added_at, id`;
const ADD = `INSERT INTO roleplay_scenarios (title) VALUES ($1) RETURNING ${COLUMNS}`;
const PLAY = `UPDATE roleplay_scenarios SET plays = plays + 1, played_by = $2 WHERE id = $1 RETURNING ${COLUMNS}`;

type Entry = { user: string; id: string }; // who asks, and the workspace
export type Scenario = { id: string; title: string; plays: number; played_by: string | null };
export type Scenarios = Awaited<ReturnType<typeof prepared>>;

/** Once the owner of *ownerUrl* has made the table and the application's own login. */
export async function prepared(ownerUrl: string) {
  const owner = new pg.Client({ connectionString: ownerUrl, ...PATIENCE });
  await owner.connect();
  await owner.query(prepare).finally(() => owner.end());
  const url = ownerUrl.replace(/\/\/(?:[^@/]*@)?/, `//${LOGIN}@`);
  const pool = new pg.Pool({ connectionString: url, ...PATIENCE });
  pool.on("error", (error) => console.warn(`an idle connection has ended: ${error.message}`));

  /** The guard has asked already; PostgreSQL asks again, so that a guard that was forgotten shows nothing. */
  async function entered({ user, id }: Entry, query: string, ...values: string[]): Promise<Scenario[]> {
    const client = await pool.connect();
    try {
      await client.query("BEGIN");
      await client.query("SELECT authz.enter($1, $2)", [user, id]);
      const { rows } = await client.query<Scenario>(query, values);
      await client.query("COMMIT");
      client.release();
      return rows;
    } catch (error) {
      client.release(true); // the connection ends, and its transaction with it
      throw error;
    }
  }
  return {
    all: (entry: Entry) => entered(entry, READ),
    add: async (entry: Entry, title: string) => (await entered(entry, ADD, title))[0],
    /** Undefined if there is none with this id. */
    play: async (entry: Entry, id: string) => (await entered(entry, PLAY, id, entry.user))[0],
  };
}
