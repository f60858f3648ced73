import { type CSSProperties, type ReactElement, type ReactNode, useEffect, useId, useRef } from "react";

import { type Price, usePlans } from "./plans.js";

/** A problem of a guard's, or of the sidecar's own routes. */
export interface UpgradeProblem {
  status: number;
  title?: string;
  detail?: string;
  upgrade?: readonly { plan: string; title?: string; price?: Price }[];
}

export interface UpgradeDialogProps {
  /** The body of the response that was denied. The dialog opens for each new one whose status is 402. */
  problem: UpgradeProblem | null | undefined;
  /** It was closed: by its button, by Escape, or by a choice. */
  onClose?: () => void;
  /** With it, each plan has a button. */
  onChoose?: (plan: string) => void;
  /** What stands in it, in another language than English. */
  words?: Partial<Words>;
  className?: string;
}

export interface Words {
  heading: ReactNode;
  close: ReactNode;
  choose: (title: string) => ReactNode;
  price: (price: Price) => string;
}

/** Which plans would allow what was denied: a native dialog, styled by CSS variables alone. */
export function UpgradeDialog(props: UpgradeDialogProps): ReactElement | null {
  const { problem, onClose, onChoose, words, className } = props;
  const dialog = useRef<HTMLDialogElement>(null);
  const id = useId();
  const shown = problem?.status === 402 ? problem : undefined;
  const upgrades = shown?.upgrade ?? [];
  const plans = usePlans(upgrades.some(({ title, price }) => title === undefined || price === undefined));
  const { heading, close, choose, price } = { ...ENGLISH, ...words };

  useEffect(() => {
    const element = dialog.current;
    if (shown !== undefined && element !== null && !element.open) element.showModal();
  }, [shown]);

  if (shown === undefined) return null;
  return (
    <dialog
      ref={dialog}
      className={className}
      style={STYLE}
      aria-labelledby={`${id}-heading`}
      aria-describedby={`${id}-detail`}
      onClose={onClose}
    >
      <h2 id={`${id}-heading`} style={{ marginTop: 0 }}>
        {heading}
      </h2>
      <p id={`${id}-detail`}>{shown.detail ?? shown.title}</p>
      <ul style={{ listStyle: "none", padding: 0 }}>
        {upgrades.map((upgrade) => {
          const sold = plans?.plans.find(({ plan }) => plan === upgrade.plan);
          const title = upgrade.title ?? sold?.title ?? upgrade.plan;
          const costs = upgrade.price ?? sold?.price;
          return (
            <li key={upgrade.plan} style={ROW}>
              <span>
                <strong>{title}</strong> {costs && <span>{price(costs)}</span>}
              </span>
              {onChoose && (
                <button
                  type="button"
                  style={BUTTON}
                  onClick={() => {
                    onChoose(upgrade.plan);
                    dialog.current?.close();
                  }}
                >
                  {choose(title)}
                </button>
              )}
            </li>
          );
        })}
      </ul>
      <button type="button" style={BUTTON} onClick={() => dialog.current?.close()}>
        {close}
      </button>
    </dialog>
  );
}

const ENGLISH: Words = {
  heading: "Your plan does not include this",
  close: "Close",
  choose: (title) => `Choose ${title}`,
  price: ({ amount, currency, per }) => {
    const money = new Intl.NumberFormat(undefined, { style: "currency", currency, maximumFractionDigits: 0 });
    return `${money.format(amount)} / ${per}`;
  },
};

// System colors follow the color scheme, which the dialog takes over from the page or from the user.
const STYLE: CSSProperties = {
  colorScheme: "var(--policy-sidecar-color-scheme, light dark)",
  background: "var(--policy-sidecar-background, Canvas)",
  color: "var(--policy-sidecar-color, CanvasText)",
  border: "var(--policy-sidecar-border, 1px solid)",
  borderRadius: "var(--policy-sidecar-radius, 0.5rem)",
  padding: "var(--policy-sidecar-padding, 1.5rem)",
  font: "var(--policy-sidecar-font, inherit)",
  maxWidth: "var(--policy-sidecar-width, 28rem)",
};
const BUTTON: CSSProperties = {
  font: "inherit",
  color: "var(--policy-sidecar-button-color, ButtonText)",
  background: "var(--policy-sidecar-button-background, ButtonFace)",
};
const ROW: CSSProperties = { display: "flex", justifyContent: "space-between", gap: "1rem", padding: "0.25rem 0" };
