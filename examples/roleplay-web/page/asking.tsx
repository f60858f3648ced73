import { type FormEvent, type InputHTMLAttributes, useId } from "react";

/** What came back, and what to *say* where that is no success; status 0 if nothing came. */
export async function answerOf(asked: Promise<Response>) {
  try {
    const response = await asked;
    const body = await response.json();
    return { ok: response.ok, status: response.status, body, says: body.detail ?? body.title };
  } catch {
    return { ok: false, status: 0, body: undefined, says: "The trainer does not answer: try again." };
  }
}

type Asks = { label: string; button: string; send: (text: string) => Promise<unknown> };

/** A form of one field, which is emptied once *send* comes to something. */
export function Ask({ label, button, send, ...input }: Asks & InputHTMLAttributes<HTMLInputElement>) {
  const id = useId();

  async function submit(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const form = event.currentTarget;
    if (await send(String(new FormData(form).get("text")))) form.reset();
  }
  return (
    <form onSubmit={submit}>
      <label htmlFor={id}>{label}</label>
      <input id={id} name="text" required {...input} />
      <button>{button}</button>
    </form>
  );
}
