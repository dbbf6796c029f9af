/** A step of the schema. Ids sort; once released a step never changes. */
export interface Migration {
  id: string;
  sql: string;
}
